// Package containerd owns what one containerd is and does: its version, where
// it really looks for host directories, whether its configuration leaves room
// for ours, and pulls through its CRI socket.
//
// It reads containerd's configuration and never writes it. Whatever it finds
// is said in Facts; what it cannot work with is Unsupported or Custom, with a
// sentence for the operator. Start at Discover, then Client.
package containerd
