// Package uninstall takes the module out of a cluster: once, by a program that
// ends. First the controller takes nodes back to where they were before the
// module, and is stopped. Then agents clear their folders, and what the
// controller made is removed. What the chart made because it was missing is
// removed if nobody else uses it.
//
// It refuses unless the cluster is in Unmanaged and Ready, removes nothing that
// the module did not make, and can be stopped anywhere: the next run goes on.
// For that it needs Secret registry-state, which is removed last. Start at Run.
// own.go and shared.go say which objects are whose.
package uninstall
