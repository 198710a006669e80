// Package gateway owns the in-cluster proxy process: the data path for clients
// inside the cluster that talk to the registry themselves, and the nodes'
// fallback.
//
// It reads one Secret, by watch, and keeps the last good content of each key
// in memory: a Secret that is deleted, unreadable or older changes nothing. It
// asks callers for Basic credentials, serves what the layout routes (package front), and
// writes on its own Pod which generation that is and which clients used it last.
//
// It writes nothing to disk and nothing to the cluster but those annotations.
// Start at Run.
package gateway
