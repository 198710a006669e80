// Package containerdtest starts real containerds for tests, of each version
// that nodes run, each with its own folders and socket, in a network namespace
// that only the test knows.
//
// Nothing of it is on the host: no port, no file outside the test's folder, no
// container that outlives the test. Start at Isolate, then New.
package containerdtest
