// Package uninstall takes the module out of a cluster: once, by a program that
// ends. Nodes go first, back to where they were before the module, by the
// controller's own order; then the controller stops, agents clear their folders,
// and everything that the controller made is removed. What the chart made for
// lack of it goes if nobody else uses it.
//
// It refuses unless the cluster is in Unmanaged and Ready, removes nothing that
// the module did not make, and can be stopped anywhere: the next run goes on.
// The state is what it goes by, and is removed last. Start at Run; which objects
// are whose is in own.go and shared.go.
package uninstall
