// Package stores asks nodes to run stores, and says how they are: RegistryNode.spec.store of
// each node, a certificate for its key, approval of one new version at a time, what all serve
// by (Secret registry-store) with the right to read it, and what they report. Where a kubelet
// takes no static pods it makes the pod by a DaemonSet. Which nodes, and how, it is told; a
// Wish for no nodes takes all away. Start at Wish and (*Keeper).Apply.
//
// What a node reports is its own word: names in a certificate and addresses of stores come
// from the Node, never from a report or a request.
package stores
