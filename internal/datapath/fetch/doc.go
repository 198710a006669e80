// Package fetch owns one pull from the upstreams of its route: which is asked, when the
// next one is, and how a body that breaks goes on.
//
// New reads top to bottom as a request travels: resume, failover, and per upstream
// answer.Checker around the target's transport. All upstreams together have one budget to
// the header, and layers are streamed: memory does not grow with them.
//
// It knows of no client: what it returns has the upstream's names and headers, and an
// error names each upstream and its reason. Start at New, then failover.ask.
package fetch
