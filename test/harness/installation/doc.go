// Package installation is a cluster with the module as those around it see it: what an
// installer makes, what a user asks for and reads, what honest agents report. It stands
// on a real API server.
//
// It does not know the controller, whose own tests use it too: each test starts one as it
// needs it. Start at Cluster.
package installation
