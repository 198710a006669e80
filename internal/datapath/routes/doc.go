// Package routes owns who serves a name: a Table holds names × upstreams as an immutable
// snapshot that Swap replaces under running requests, and each Target is an upstream with
// what is known about it: its connections, whether it answers in time, for what it asked us
// to wait, what pulls from it came to, and for which digests it gave other bytes. What is
// known of a server outlives a renewal of its credentials.
//
// Where a layout has stores, they are the first targets of each of its routes, asked by nodes and
// by the in-cluster proxy as stores ask each other: that is stores.go. They are in front and nothing
// else: what one says is about itself, see package fetch, and users' mirrors have none.
//
// It asks an upstream only in Prove, whether the target of a layout serves here, and a store only in
// StandIn, whether it does in the target's place. Which
// target of a route is asked for a pull, and when the next one, is package fetch's. Start at
// Table.Swap, then Table.Lookup.
package routes
