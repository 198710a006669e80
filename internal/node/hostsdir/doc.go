// Package hostsdir owns our entries in containerd's host directory
// (`config_path`): one sub-directory per host that image references name, with
// a hosts.toml that sends containerd to the agent on loopback first.
//
// Render turns a layout into a Tree, which is data. Apply makes containerd's host
// directory look like the tree. It writes only what differs, in an order in which
// containerd can read the directory at any moment, and it removes only what an
// earlier Apply wrote. A directory that somebody else made is never touched, but
// reported as a Conflict; isOurs in ownership.go decides that. Only that of the fixed
// address is always ours.
//
// The package opens no connection and knows nothing of Kubernetes. Start at
// Render, then Apply.
package hostsdir
