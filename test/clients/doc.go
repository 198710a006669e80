// Package clients pulls with the clients that clusters have (containerd 1.6, 1.7 and 2.x,
// go-containerregistry, skopeo) through the agent and the in-cluster proxy, while the
// registry breaks off, resets, goes silent, refuses, sends too little or other bytes, at
// random; and with the containerds in mode Proxy, while stores are killed and without the
// registry. There is nothing in it but tests; start at TestRounds and TestProxyMode.
package clients
