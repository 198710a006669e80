// Package restore holds what happens to a cluster whose etcd is put back to a
// backup while its nodes and the controller went on. There is nothing in it but
// tests: start at restore_test.go.
package restore
