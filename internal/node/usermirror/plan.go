package usermirror

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/node/hostsdir"
	"github.com/d8-registry/registry/internal/node/hostsfile"
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
	// Containerd is its version, by which files are judged; the newest if empty.
	Containerd string
}

// Plan is what the agent does about the directories of users. Nothing is written
// before Apply.
type Plan struct {
	// Routes are what the serving half must know, before Apply.
	Routes []upstream.UserHost
	// Hosts are the users' directories that were found, in both directories.
	Hosts []Host
	// Claims are hosts that a layout and a user both name.
	Claims []Claim
	// Problems are what does not work as users expect.
	Problems []Problem
	// Watch are the directories in which a change matters, as this program reaches
	// them.
	Watch []string

	disk    disk
	dialect hostsfile.Dialect
	agent   hostsdir.Options
	dirs    []userDir
	entries []hostsdir.Directory
}

// userDir is one directory of host directories, and those that get our block.
type userDir struct {
	path   string // as containerd sees it
	blocks []string
}

// Claim is a host that a layout and a user both name.
type Claim struct {
	Host string
	File string // the user's, as containerd sees it
	// Comes says that containerd comes to the agent all the same: then the agent
	// serves the host by the user's mirrors first.
	Comes bool
	Text  string // a sentence for the operator
}

// NewPlan reads the users' directories. If the layout has no routes, nothing of
// ours is wanted on the node: every block goes.
func NewPlan(n Node, l layout.Layout, agent hostsdir.Options) Plan {
	p := Plan{disk: disk{root: n.Root}, dialect: hostsfile.For(n.Containerd), agent: agent}
	dirs := []string{n.Source}
	if n.Effective != "" && path.Clean(n.Effective) != path.Clean(n.Source) {
		// What containerd reads comes first.
		dirs = []string{n.Effective, n.Source}
	}
	named := map[string]bool{}
	for _, r := range l.Routes {
		named[r.Name.Host] = r.Name.Host != layout.Fixed().Host
	}
	for _, dir := range dirs {
		hosts, problems := Scan(n, dir)
		p.Problems = append(p.Problems, problems...)
		f := userDir{path: dir}
		if len(l.Routes) > 0 {
			f.blocks = p.decideAll(hosts, named, dir == n.Source && len(dirs) > 1)
		}
		p.dirs = append(p.dirs, f)
		p.watch(dir, hosts)
		p.Hosts = append(p.Hosts, hosts...)
	}
	return p
}

// decideAll decides about the hosts of one directory, and returns those that get
// our block. elsewhere is set if containerd does not look there.
func (p *Plan) decideAll(hosts []Host, named map[string]bool, elsewhere bool) (blocks []string) {
	for _, h := range hosts {
		claimed := named[h.Name]
		if !h.NeedsAgent && !claimed && !elsewhere || p.shadowed(h) {
			continue
		}
		if p.decide(h, claimed, elsewhere) {
			blocks = append(blocks, h.Directory)
		}
	}
	return blocks
}

// decide decides about one host, and reports whether its file gets our block.
func (p *Plan) decide(h Host, claimed, elsewhere bool) (block bool) {
	// viaAgent: the host needs the agent. entry: containerd does not look there, so an
	// entry of ours leads it; the block is for other programs that read the file.
	viaAgent, entry := h.NeedsAgent || claimed, elsewhere && !h.Unreadable
	block = viaAgent && !h.Unreadable && p.blockable(h)
	comes := viaAgent && (block || entry)
	if claimed && (comes || !elsewhere) {
		p.claim(h, comes)
	}
	if comes {
		p.Routes = append(p.Routes, h.route())
	}
	if entry {
		p.entry(h, viaAgent)
	}
	return block
}

// shadowed reports whether containerd reads another directory for the host: then
// the agent uses that too.
func (p *Plan) shadowed(h Host) bool {
	i := slices.IndexFunc(p.Hosts, func(o Host) bool { return o.Name == h.Name })
	if i < 0 {
		return false
	}
	p.problem(h, "containerd does not read it: "+p.Hosts[i].File+" is for the same host and is where it looks; remove one of them")
	return true
}

// blockable reports whether a host's file can get our block.
func (p *Plan) blockable(h Host) bool {
	if h.link {
		p.problem(h, "it is a symbolic link or in one, which is not ours to replace, so that it does not lead to the agent for "+h.Name+
			", and auth and rewrite do nothing; expected a directory with a file")
		return false
	}
	if h.owner != os.Geteuid() {
		// The owner of a file may read it, and can pull with our token whatever the
		// cluster may.
		p.problem(h, fmt.Sprintf("it belongs to user %d, who would get to read the agent's token in it, so that it does not lead to the agent for %s, "+
			"and auth and rewrite do nothing; run: chown root:root %s", h.owner, h.Name, h.File))
		return false
	}
	data, err := p.disk.read(h.File)
	if err == nil {
		rest, _ := cut(data)
		_, err = insert(p.dialect, rest, p.agent.AgentURL, p.agent.Token)
	}
	if err != nil {
		p.problem(h, "it cannot lead to the agent for "+h.Name+", so that auth and rewrite do nothing: "+reason(err))
	}
	return err == nil
}

func (p *Plan) claim(h Host, comes bool) {
	text := ": his mirrors are its route, and the platform's registries serve what they do not"
	if !comes {
		text = ", which is its route: containerd does not come to the agent for it"
	}
	p.Claims = append(p.Claims, Claim{Host: h.Name, File: h.File, Comes: comes, Text: h.Name + " is set up by a user in " + h.File + text})
}

func (p *Plan) problem(h Host, text string) {
	p.Problems = append(p.Problems, Problem{File: h.File, Text: text})
}

// entry adds a directory of ours with what a user wrote in one in which containerd
// does not look.
func (p *Plan) entry(h Host, agentFirst bool) {
	var hosts []hostsfile.Table
	var server hostsfile.Table
	for _, e := range h.Endpoints {
		if e.Server {
			server = e.reads
		} else if !e.Broken {
			hosts = append(hosts, e.reads)
		}
	}
	dir, err := hostsdir.RenderUser(h.Name, p.agent, agentFirst, hosts, server)
	if err != nil {
		p.problem(h, "containerd does not look there, and it cannot be set up where it does: "+err.Error())
		return
	}
	p.entries = append(p.entries, dir)
}

// route is the host as the agent serves it. The server is left out if it has no
// auth or rewrite: containerd asks it itself, with the pod's own credentials.
func (h Host) route() upstream.UserHost {
	out := upstream.UserHost{Name: h.Name, Mirrors: []upstream.Mirror{}}
	for _, e := range h.Endpoints {
		if e.Broken || e.Server && !e.NeedsAgent || e.Mirror.NoPull && e.Mirror.NoResolve {
			continue
		}
		out.Mirrors = append(out.Mirrors, e.Mirror)
	}
	return out
}

// Tree is the tree of a layout without the hosts that users claim, and with the
// entries of the source directory if containerd looks somewhere else.
func (p Plan) Tree(tree hostsdir.Tree) hostsdir.Tree {
	out := slices.DeleteFunc(slices.Clone(tree), func(d hostsdir.Directory) bool {
		return slices.ContainsFunc(p.Claims, func(c Claim) bool { return c.Host == d.Host })
	})
	out = append(out, p.entries...)
	slices.SortFunc(out, func(a, b hostsdir.Directory) int { return strings.Compare(a.Host, b.Host) })
	return out
}

func (p *Plan) watch(dir string, hosts []Host) {
	real, err := p.disk.resolve(dir)
	if err != nil {
		return
	}
	p.Watch = append(p.Watch, real)
	for _, h := range hosts {
		p.Watch = append(p.Watch, filepath.Join(real, h.Directory))
	}
}
