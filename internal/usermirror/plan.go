package usermirror

import (
	"errors"

	"github.com/d8-registry/registry/internal/hostsdir"
	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/upstream"
)

// Node says where things are on a node.
type Node struct {
	// Root is containerd's root directory, as this program reaches it:
	// "/proc/PID/root", or "/".
	Root string
	// Source is where users write host directories, Effective where containerd
	// looks for them (or will, as soon as it is told to), both as containerd sees
	// them. Effective may be empty: it looks nowhere.
	Source, Effective string
}

// Plan is what the agent does about the directories of users. It is made by
// looking; nothing is written before Apply.
type Plan struct {
	// Routes are what the serving half must know, before Apply.
	Routes []upstream.UserHost
	// Hosts are the users' directories that were found, in both directories.
	Hosts []Host
	// Claims are hosts that a layout and a user both name.
	Claims []Claim
	// Problems are what does not work as users wrote it.
	Problems []Problem
	// Watch are the directories in which a change matters, as this program
	// reaches them.
	Watch []string
}

// Claim is a host that a layout and a user both name.
type Claim struct {
	Host string
	File string // the user's, as containerd sees it
	// Comes says that containerd comes to the agent all the same, which serves
	// the host by the user's mirrors first.
	Comes bool
	Text  string // a sentence for the operator
}

// Result is what Apply did, or what Check found to do. Paths are as containerd
// sees them.
type Result struct {
	Written  []string // files that got our block, or got it back
	Restored []string // files that are the user's own again
	Problems []Problem
}

// Changed reports whether anything was written.
func (r Result) Changed() bool { return len(r.Written)+len(r.Restored) > 0 }

// NewPlan looks at the users' directories. A layout without routes means that
// nothing of ours is wanted on the node: every block goes.
func NewPlan(_ Node, _ layout.Layout, _ hostsdir.Options) Plan { return Plan{} }

// Tree is the tree of a layout with what users' directories change in it: the
// hosts that they claim, and those of the source directory where containerd
// looks elsewhere.
func (p Plan) Tree(tree hostsdir.Tree) hostsdir.Tree { return tree }

// Apply puts the marked blocks into the users' files, and takes them out where
// they are not wanted.
func (p Plan) Apply() (Result, error) { return Result{}, errors.New("not yet") }

// Check is Apply without writing.
func (p Plan) Check() (Result, error) { return Result{}, errors.New("not yet") }
