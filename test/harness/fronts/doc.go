// Package fronts starts what clients pull from: the half of the agent that serves a
// node, and the in-cluster proxy, each as its program does, with a layout that a real
// API server has. Start at Agent and Proxy.
package fronts
