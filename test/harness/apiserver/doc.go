// Package apiserver runs a real etcd and a real kube-apiserver for tests, with
// the module's CRDs, admission policies and RBAC installed.
//
// A test package declares one Server, lets its Main run the tests, and calls
// Start in each test that needs the API; the first call starts the processes,
// the others share them. Identities are real: API.As gives a token of a
// ServiceAccount that is bound to a Pod on a Node, as a kubelet would. FaultProxy
// stands between a client and the server and makes writes fail.
//
// APISERVER=1.30 in the environment runs the tests on another version of the
// server (make versions).
//
// There is no controller-manager: nothing collects garbage, no Deployment gets
// pods, no namespace is ever gone. The processes are started here and not by
// controller-runtime's envtest, because envtest leaves files in the user's
// cache directory and, when a test panics, two processes.
package apiserver
