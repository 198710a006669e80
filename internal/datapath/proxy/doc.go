// Package proxy owns the data path: from a client's pull to the upstream that
// serves it and back.
//
// New reads top to bottom as a request travels: logged, mux, routed, ReverseProxy,
// resume, failover, and per upstream redirected, authorized, http.Transport. A
// Table holds names × upstreams as an immutable snapshot that Swap replaces
// under running requests.
//
// Three rules hold everywhere. The client's credentials never reach an upstream
// and an upstream's never a client: headers are allow-lists in both
// directions. A refusal of our credentials is our failure, 502 with the
// reason, never a relayed 401. Layers are streamed: memory does not grow with
// them. What an upstream's answer means, 429 included, is decided in package judge.
//
// The package knows nothing of Kubernetes, writes nothing to disk and
// authenticates nobody: wrap New for that. Start at New, then Table.Swap.
package proxy
