package usermirror

import (
	"fmt"

	"github.com/d8-registry/registry/internal/node/hostsfile"
	"github.com/d8-registry/registry/internal/upstream"
)

// Host is one directory of a user with what its hosts.toml says.
type Host struct {
	// Name is the registry host of image references; upstream.DefaultHost for
	// all others.
	Name string
	// Directory is its name on disk: "registry.io", "registry.io_5000_".
	Directory string
	// File is the path of hosts.toml, as containerd sees it.
	File string
	// Endpoints are where containerd would go, in its order; the last one is the
	// server.
	Endpoints []Endpoint
	// NeedsAgent says that the file asks for what stock containerd cannot do:
	// auth or rewrite.
	NeedsAgent bool
	// Unreadable says that containerd ignores the file, or that its directory's name
	// is no host; a Problem says why.
	Unreadable bool

	link  bool // the file or its directory is a symbolic link: not ours to replace
	owner int  // user ID of the file's owner
}

// Endpoint is one [host."…"] of a file, or its server.
type Endpoint struct {
	// URL is what the user wrote; empty for a server that is the host itself.
	URL string
	// Server marks the last resort, which is at the top of the file.
	Server bool
	// NeedsAgent says that it has auth or rewrite.
	NeedsAgent bool
	// Line is where it begins, from 1; 0 when unknown.
	Line int
	// Mirror is the endpoint as the agent uses it; not if it is Broken.
	Mirror upstream.Mirror
	// Broken says that something in it cannot be used; a Problem says what.
	Broken bool

	// reads is what containerd reads, for an entry of ours with the same meaning.
	// Paths are absolute.
	reads hostsfile.Table
}

// Problem is one thing in one file that does not work as written. It never
// holds a value of the file that may be a password.
type Problem struct {
	File string // as containerd sees it
	Line int    // from 1; 0 when unknown
	Key  string // such as host."https://registry.io".ca; empty when the file cannot be read
	Text string // what it is, what it does to pulls, and what would be right
	// Harmless says that it stops no pull: a key without effect.
	Harmless bool
}

// String is the problem as one sentence.
func (p Problem) String() string {
	at := p.File
	if p.Line > 0 {
		at = fmt.Sprintf("%s:%d", p.File, p.Line)
	}
	if p.Key != "" {
		at += ": " + p.Key
	}
	return at + ": " + p.Text
}
