// Package configchange decides when containerd's main file has to change, and
// sees such a change through: it is proposed in the RegistryNode, waits for
// approval, and is carried out, proved and if need be undone by reconfigure.
//
// It is needed only where containerd looks for hosts in no directory, or has not
// read the file that says so. Start at Changer.
package configchange
