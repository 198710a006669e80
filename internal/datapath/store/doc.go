// Package store owns the process of a store: the data path with a cache on disk, on the
// control-plane nodes, for all nodes of the cluster.
//
// It is a package front around a package cache. What it serves by are files that the node
// half of the agent writes; it does not know the API server. Until certificate, users, layout
// and disk are there it answers 503 at once, so that whoever asks goes on elsewhere; what is
// wrong later it says on /status, and goes on with what it has.
//
// The packages below are what is kept: cache in front of the upstreams, fill, tags, space,
// blob, disk. Start at Run.
package store
