// Package testregistry is a registry on a real socket that can be told to
// misbehave. It is for tests only.
//
// The store is go-containerregistry's; in front of it are TLS, Basic or Bearer
// authentication, redirects of blobs to another server, and Faults: latency,
// any status, cut and stalled bodies, wrong bytes, silence. It counts requests
// and the bytes of each digest. TokenIssuer also serves a real distribution
// registry. Start at New.
package testregistry
