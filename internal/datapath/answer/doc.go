// Package answer owns whether an upstream's answer is what was asked for.
//
// Before our header goes out Checker.Check reads what is small, manifests, lists, errors
// and small blobs, and judges it, so that the next upstream can still serve. A large blob is
// streamed: Verified hashes it on its way and keeps its end back until the digest is right.
//
// It asks nobody by itself and remembers of no upstream what it gave. What a status or a
// manifest means is decided in package judge. Start at Checker.Check.
package answer
