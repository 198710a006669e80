// Package kube is a whole Kubernetes out of real parts on one Linux machine, for
// end-to-end tests: etcd, API server, controller-manager and scheduler in one
// namespace, and nodes that are machines of their own, each with an init,
// containerd, runc, a kubelet, CNI and kube-proxy. Names are CoreDNS's, images
// come from the registries of test/harness/machine, the product from its own
// image by its own chart.
//
// Start at Start, then Cluster. What is not as in a production cluster: one
// control plane for any number of control-plane nodes, which run none of its
// processes; no systemd, so containerd is restarted by a command of the host.
package kube
