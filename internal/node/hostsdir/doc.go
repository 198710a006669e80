// Package hostsdir owns our entries in containerd's host directory
// (`config_path`): one sub-directory per host that image references name, with
// a hosts.toml that sends containerd to the agent on loopback first.
//
// Render turns a layout into a Tree, which is data. Apply makes a folder look
// like the tree: it writes only what differs, in an order in which containerd
// can read the folder at any moment, and removes only what an earlier Apply
// wrote. A directory that somebody else made is never touched: it is reported
// as a Conflict.
//
// The package opens no connection and knows nothing of Kubernetes. Start at
// Render, then Apply.
package hostsdir
