// Package regauth owns registry authentication, both sides of it.
//
// Client side: Transport answers the challenges of one upstream, Basic and
// Bearer, with that upstream's credentials. Server side: Require lets only
// callers pass whose password is known, as a SHA-256, in a Users.
//
// The two never meet: what a caller sent is never used towards an upstream. The
// package follows no redirects, keeps nothing on disk and knows nothing of
// Kubernetes. Start at Transport.RoundTrip.
package regauth
