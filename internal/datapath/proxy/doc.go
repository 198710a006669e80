// Package proxy owns the data path: from a client's pull to the upstream that
// serves it and back.
//
// New reads top to bottom as a request travels, one package below the other:
//
//	proxy      logged, mux, routed, queued, relay: what a client sends and gets
//	queue      whose turn it is
//	fetch      resume, failover: one pull from the upstreams of its route
//	routes     names × upstreams, and what is known of each
//	answer     whether an answer is what was asked for
//	transport  redirected, authorized, straight: how one upstream is reached
//	oci        the words of a pull: names, digests, headers, links, errors
//
// Three rules hold everywhere. The client's credentials never reach an upstream
// and an upstream's never a client: headers are allow-lists in both
// directions. A refusal of our credentials is our failure, 502 with the
// reason, never a relayed 401. Layers are streamed: memory does not grow with
// them. What an upstream's answer means, 429 included, is decided in package judge.
//
// The package knows nothing of Kubernetes, writes nothing to disk and
// authenticates nobody: wrap New for that. Start at New, then routes.Table.Swap.
package proxy
