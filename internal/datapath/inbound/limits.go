package inbound

import (
	"cmp"
	"time"
)

// Limits are those of one listener. New replaces a zero by the value of Pulls, but
// for PerAddress.
type Limits struct {
	// Connections is how many there may be. The next ones wait in the kernel's queue
	// until one has ended.
	Connections int
	// Anonymous is how many of them may be without credentials. For the next one the
	// oldest is closed.
	Anonymous int
	// PerAddress is how many of the anonymous ones may come from one address. Of those that
	// have shown credentials an address may have as many as it leaves free. 0: all have one
	// address, and nothing is bounded by it.
	PerAddress int
	// Grace is how long an anonymous connection is not closed for another one: time
	// for a handshake and a request.
	Grace time.Duration
	// Stranger is how long an anonymous connection may live.
	Stranger time.Duration
	// Header is the time for a TLS handshake, and for the header of a request.
	Header time.Duration
	// Idle is how long a connection may be without a request.
	Idle time.Duration
	// Unread is how long a client may take nothing of what we send. There is no limit
	// for a whole answer: layers are large and links thin.
	Unread time.Duration
}

// ConnectionTakes is the memory of a connection that only waits, in bytes. What is served
// on it takes more, and has bounds of its own: see package queue.
const ConnectionTakes = 40 << 10

// Pulls are the limits of the ports for pulls. 2048 connections fit into the memory of
// our Pods beside the downloads that there may be. containerd opens three connections per
// image and shows its credentials in the first request: 512 are more than arrive within a
// handshake, also when a hundred nodes come at once. Many Pods can have one address, that
// of their node: 128.
func Pulls() Limits {
	return Limits{
		Connections: 2048, Anonymous: 512, PerAddress: 128,
		Grace: time.Second, Stranger: 30 * time.Second,
		Header: 10 * time.Second, Idle: 2 * time.Minute, Unread: 2 * time.Minute,
	}
}

// Loopback are the limits where all clients have the same address.
func Loopback() Limits {
	l := Pulls()
	l.PerAddress = 0
	return l
}

// Probes are the limits of the ports for health and metrics, which ask nobody for
// credentials: the kubelet and a few collectors come here.
func Probes() Limits {
	l := Pulls()
	l.Connections, l.Anonymous, l.PerAddress = 128, 64, 32
	return l
}

func (l Limits) withDefaults() Limits {
	d := Pulls()
	l.Connections, l.Anonymous = cmp.Or(l.Connections, d.Connections), cmp.Or(l.Anonymous, d.Anonymous)
	l.Grace, l.Stranger = cmp.Or(l.Grace, d.Grace), cmp.Or(l.Stranger, d.Stranger)
	l.Header, l.Idle, l.Unread = cmp.Or(l.Header, d.Header), cmp.Or(l.Idle, d.Idle), cmp.Or(l.Unread, d.Unread)
	return l
}
