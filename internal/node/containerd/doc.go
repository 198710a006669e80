// Package containerd owns what one containerd is and does: its version, where
// it really looks for host directories, whether its configuration leaves room
// for ours, and pulls through its CRI socket.
//
// containerd's own binary says what a configuration means (Dump), because versions
// differ in how they merge files, migrate formats and fill in defaults. Our own
// reading of the files (readTree, findSettings) only gives file, line and key for
// the operator. How versions use the result (Settings) was observed with each of
// them.
//
// It reads and never writes. What it finds is in Facts. What it cannot work with
// is Unsupported or Custom, with a sentence for the operator that never quotes a
// value of a file. Start at Discover, then Client.
package containerd
