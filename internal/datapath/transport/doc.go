// Package transport owns how one upstream is reached: its CA and credentials, where it
// redirects to, which addresses may be dialled on its behalf, and how many connections are
// kept.
//
// A Transport is an http.RoundTripper for requests to that upstream. New reads top to
// bottom as a request travels: redirected, authorized, headed, onlyHTTP2, straight.
// Credentials never leave the upstream's own server. It knows of one upstream only, and
// tries nothing again: which is asked, and what an answer means, is decided above.
package transport
