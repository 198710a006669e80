// Package containerd owns what one containerd is and does: its version, where
// it really looks for host directories, whether its configuration leaves room
// for ours, and pulls through its CRI socket.
//
// What a configuration means is asked of containerd's own binary (Dump), since
// versions differ in how they merge files, migrate formats and fill in what is
// not set; our own reading of the files (readTree, locate) only names file, line
// and key to an operator. What versions do with the result (Settings) was seen
// on the wire of each.
//
// It reads and never writes. Whatever it finds is said in Facts; what it cannot
// work with is Unsupported or Custom, with a sentence for the operator, in which
// no value of a file is ever quoted. Start at Discover, then Client.
package containerd
