// Package rollout holds the table of what a switch does to workloads of every
// kind, with the real controllers and scheduler of Kubernetes: which are
// re-pointed, in which order, how many at a time, how available they are
// meanwhile, and which are left and why. Pods run on stand-ins for kubelets,
// which also make them fail. There is nothing in it but tests: start at
// table_test.go.
package rollout
