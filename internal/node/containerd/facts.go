package containerd

import (
	"fmt"

	"github.com/d8-registry/registry/internal/node/distribution"
)

// Preflight says whether containerd's configuration leaves room for ours.
type Preflight string

// What preflight may find. Ready is the only one in which anything is written.
const (
	Ready       Preflight = "Ready"
	Custom      Preflight = "Custom"      // a registry section of the user's is in the way
	Unsupported Preflight = "Unsupported" // another runtime, an old version, a read-only directory
)

// PullPath is the part of containerd that pulls for the kubelet. Each looks for
// hosts in its own way.
type PullPath string

// The two ways to pull. containerd 1.x and 2.0 know only the first.
const (
	PullLocal    PullPath = "local"    // in the CRI plugin: goes through a list of directories
	PullTransfer PullPath = "transfer" // by the transfer service: takes a list for the name of one directory
)

// Directories of containerd and of the platform's users.
const (
	DefaultSource    = "/etc/containerd/registry.d"
	defaultEffective = "/etc/containerd/certs.d"
	// stockPath is what containerd 2 puts in the place of an empty config_path.
	stockPath = defaultEffective + ":/etc/docker/certs.d"
)

// Facts are what one look at containerd found. Paths are as containerd sees
// them unless said otherwise.
type Facts struct {
	Runtime, Version string
	// Instance names this run of containerd. It differs after a restart.
	Instance string
	PID      int
	// Binary is containerd's own; Unit its systemd unit ("containerd.service"),
	// empty when it runs in none.
	Binary, Unit string
	// ConfigFile is the main file, whether or not it exists; ConfigVersion the
	// format that it is written in (1 to 4), 0 when it does not exist or cannot
	// be read.
	ConfigFile    string
	ConfigVersion int
	// Distribution is what set containerd up.
	Distribution distribution.Distribution
	// WithoutCRI says that containerd runs without its CRI plugin.
	WithoutCRI bool

	// Paths are the entries of config_path, in order; empty when it is not set.
	Paths    []string
	PullPath PullPath
	// SandboxImage is the image of the pause container; empty if there is none.
	SandboxImage string

	// Effective is the directory in which this containerd really looks for
	// host directories first. Empty when there is none.
	Effective string
	// NeedsPath, when not empty, is what config_path must become, in PathFile,
	// before containerd looks for our host directories, and NeedsPathReason the
	// sentence why. Effective is empty then.
	NeedsPath, PathFile, NeedsPathReason string
	// ChangedSince is the file of the configuration that was changed after this
	// containerd started, so that it may not have read it; empty if none.
	ChangedSince string
	// HostsDir is where our host directories belong, as this program reaches it
	// through the root of containerd's mount namespace: Effective, or NeedsPath if
	// that must be set first. Empty if there is no such directory.
	HostsDir string

	// ConfigDirs are the directories in which a new or changed file may change
	// these facts, as this program reaches them.
	ConfigDirs []string

	Preflight Preflight
	// Message is a sentence for the operator; empty when Ready.
	Message string
	// Problems are Message in detail: what is in the way, by file and line.
	Problems []Problem
	// Warnings are not in the way, but the operator should know them.
	Warnings []string
}

// Major is the first number of the version: 1 or 2.
func (f Facts) Major() int { return numbers(f.Version)[0] }

// Plan is what a switch does to this node, for people.
func (f Facts) Plan() string {
	switch {
	case f.Preflight != Ready:
		return "nothing, until what is in the way is repaired"
	case f.NeedsPath != "":
		return fmt.Sprintf("config_path = %q in %s, and one restart; entries go to that directory", f.NeedsPath, f.PathFile)
	default:
		return "no restart; entries go to " + f.Effective
	}
}

// Problem is one thing in one file that is in the way. It never holds a value of
// the file, which may be a password.
type Problem struct {
	File string // as containerd sees it
	Line int    // from 1; 0 when unknown
	Key  string // such as registry.mirrors; empty when the file cannot be read
	Text string // the rest of the sentence: what it is, and what to do
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
	return at + " " + p.Text
}

// Options say where to look and override what would be discovered.
type Options struct {
	// Socket is where containerd listens, as this program reaches it.
	Socket string
	// Effective, when set, is believed instead of containerd's configuration.
	Effective string
	// ConfigFile, when set, is the main file instead of that on containerd's
	// command line.
	ConfigFile string
	// Source is where users and scripts write host directories; DefaultSource
	// when empty.
	Source string
	// NoProxy are hosts that containerd must not ask through a proxy; when nil,
	// the cluster's own registry by its Service's name.
	NoProxy []string
}

func (f *Facts) refuse(p Preflight, format string, args ...any) {
	f.Preflight, f.Message = p, fmt.Sprintf(format, args...)
}
