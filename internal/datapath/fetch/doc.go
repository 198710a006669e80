// Package fetch owns one pull from the upstreams of its route: which is asked, when the
// next one is, and how a body that breaks goes on.
//
// New reads top to bottom as a request travels: resume, failover, and per upstream
// answer.Checker around the target's transport. All upstreams together have one budget to
// the header, and layers are streamed: memory does not grow with them.
//
// A store in front of the upstreams (package routes, AskStores) is asked as they are, but nothing that
// it says is an answer: only that something is not there, where it has asked all of them. What is
// different for one is said where IsStore is: in failover.go, and in resume.go whose wrong bytes were
// whose. What it gives is relayed: content of a digest is verified where all of it passes, parts of it by
// the client alone; what a tag means nobody can verify, and is believed of a store as of a registry.
//
// It knows of no client: what it returns has the upstream's names and headers, and an
// error names each upstream and its reason. Start at New, then failover.ask.
package fetch
