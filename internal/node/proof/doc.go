// Package proof finds out whether this node's own containerd sends pulls to the
// agent. That cannot be read from its configuration: it may not have been read
// yet, or something else may come first. So the Prover orders a pull from
// containerd, of a reference that exists nowhere, and asks the serving half
// whether it arrived, and the kernel whether containerd made it.
//
// A proof is good for one run of containerd and one content of the host's
// directory, and only for a while. The package writes nothing. Start at Prover.
package proof
