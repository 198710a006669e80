// Package inbound owns how every program of ours listens: deadlines and limits for
// connections, no bodies of requests, TLS, and how a server stops. It knows nothing
// of what is served.
//
// A connection is anonymous until somebody has shown credentials on it, see Known.
// Anonymous ones are few and end soon: nobody holds our memory or keeps others out
// by connecting and waiting. Start at New.
package inbound
