// Package fronts starts what clients pull from: the half of the agent that serves a
// node, the in-cluster proxy, and a store, each as its program does. The layouts of the
// first two are what a real API server has; a store has files. Start at Agent, Proxy,
// Store and, for several that can be killed, Stores.
package fronts
