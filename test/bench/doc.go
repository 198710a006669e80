// Command bench measures the data path beside others that could be in its place: nginx
// from Debian, tuned, and distribution as a pull-through cache, in front of the same
// static upstream in the same run, with TLS on both sides and without.
//
// Our programs run as they do in a cluster: registry-agent serve, as a process, with
// its layout from an API server. They have no way to serve without TLS, so that there a
// copy of this program serves the same handler. Each round measures every program, in
// another order each time: what disturbs the machine disturbs all, and ratios are
// those of one round. The client is written for this and does less than any of the
// programs; the upstream alone is a column, to show that neither is what limits.
//
// "bench store" measures a cache in the same way: registry-store, alone and three of them, beside
// nginx with proxy_cache and distribution. What the registry sent is counted at the registry.
//
// "bench etcd" is what a real etcd feels of a store that fills on its disk, see etcd.go.
//
// "bench memory" is about memory alone: parallel downloads, see memory.go.
//
// It is run by make bench, and never by a test: times on a busy machine say nothing.
// Start at main.go, then rows.go.
package main
