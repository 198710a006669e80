// Package containerdtest starts real containerds for tests, each with its own
// folders and socket, in a network namespace that only the test knows.
//
// Nothing of it is on the host: no port, no file outside the test's folder.
// Start at Isolate, then Start.
package containerdtest
