// Package durabletest is a file system that fails as a test says: one operation
// that ends in an error, or a process that is killed at any of its operations.
// It is the one way to test what a crash leaves behind.
//
// Process kills at the n-th step, in each way that a kill can leave a file.
// Start there; FS is for tests that choose the operation themselves.
package durabletest
