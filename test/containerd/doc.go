// Package containerd tests the product against containerd's own libraries and
// real registries. It is a module of its own, so that nothing of containerd
// reaches the product's dependencies.
package containerd
