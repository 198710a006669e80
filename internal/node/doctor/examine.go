package doctor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/node/containerd"
	"github.com/d8-registry/registry/internal/node/handoff"
	"github.com/d8-registry/registry/internal/node/hostsdir"
	"github.com/d8-registry/registry/internal/node/mainfile"
	"github.com/d8-registry/registry/internal/node/reconfigure"
	"github.com/d8-registry/registry/internal/node/usermirror"
	"github.com/d8-registry/registry/internal/pki"
	"github.com/d8-registry/registry/internal/upstream"
)

// Config says where to look. The fields are those of an agent's configuration.
type Config struct {
	Socket, ConfigFile, HostsDir, SourceDir, StateDir, Listen string
	// Service is what would restart containerd; nil if that is not to be checked.
	Service func(unit string) reconfigure.Service
}

// lookTime is how long the examination may take.
const lookTime = 30 * time.Second

// Examine looks at the node. An error means that it could not.
func Examine(ctx context.Context, cfg Config) (*Report, error) {
	ctx, cancel := context.WithTimeout(ctx, lookTime)
	defer cancel()
	if err := listens(ctx, cfg.Socket); err != nil {
		return nil, err
	}
	cri, err := containerd.Dial(cfg.Socket)
	if err != nil {
		return nil, err
	}
	defer func() { _ = cri.Close() }()
	facts, err := containerd.Discover(ctx, cri, containerd.Options{
		Socket: cfg.Socket, Effective: cfg.HostsDir, ConfigFile: cfg.ConfigFile, Source: cfg.SourceDir,
	})
	if err != nil {
		return nil, fmt.Errorf("look at containerd: %w", err)
	}
	e := &examination{cfg: cfg, facts: facts, report: found(cfg, facts)}
	e.service(ctx)
	if err := e.directories(); err != nil {
		return nil, err
	}
	e.mainFile()
	r := e.report
	slices.SortStableFunc(r.Changes, func(a, b Change) int { return strings.Compare(a.File, b.File) })
	r.Ready = len(r.Problems) == 0
	return r, nil
}

// listens fails at once if nothing listens: a client would wait for containerd.
func listens(ctx context.Context, socket string) error {
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", socket)
	if err != nil {
		return fmt.Errorf("no containerd answers here, --containerd-socket says where it does: %w", err)
	}
	return conn.Close()
}

// examination is one Examine under way.
type examination struct {
	cfg    Config
	facts  containerd.Facts
	report *Report
}

// found is the report of what containerd is.
func found(cfg Config, f containerd.Facts) *Report {
	r := &Report{Preflight: string(f.Preflight), Warnings: slices.Clone(f.Warnings), Containerd: Containerd{
		Runtime: f.Runtime, Version: f.Version, PID: f.PID, Unit: f.Unit,
		ConfigFile: f.ConfigFile, ConfigVersion: f.ConfigVersion, Distribution: string(f.Distribution.Name),
		ConfigPath: f.Paths, Effective: f.Effective, Source: cfg.SourceDir,
		PullPath: string(f.PullPath), SandboxImage: f.SandboxImage, ChangedSince: f.ChangedSince,
		Written: f.Distribution.When(), Registries: f.Distribution.Registries,
	}}
	r.Containerd.Proxy, r.Containerd.NoProxy = proxy(f.PID)
	if f.WithoutCRI || f.Preflight != containerd.Ready && len(f.Problems) == 0 {
		r.Problems = append(r.Problems, f.Message)
	}
	for _, p := range f.Problems {
		if !strings.Contains(f.Message, p.String()) || !f.WithoutCRI {
			r.Problems = append(r.Problems, p.String())
		}
	}
	if f.ChangedSince != "" {
		r.Warnings = append(r.Warnings, "containerd started before "+f.ChangedSince+" was changed, and may not have read it")
	}
	return r
}

// proxy is which variables for proxies a process has. Their values may hold
// passwords and are left out.
func proxy(pid int) (set []string, exempt string) {
	data, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "environ"))
	if err != nil {
		return nil, ""
	}
	for _, variable := range strings.Split(string(data), "\x00") {
		name, value, _ := strings.Cut(variable, "=")
		switch upper := strings.ToUpper(name); {
		case upper == "NO_PROXY" && exempt == "":
			exempt = value
		case value != "" && (upper == "HTTP_PROXY" || upper == "HTTPS_PROXY"):
			set = append(set, name)
		}
	}
	return set, exempt
}

// service reports whether containerd can be restarted. It is a problem only if
// containerd must be.
func (e *examination) service(ctx context.Context) {
	if e.cfg.Service == nil || e.facts.PID == 0 {
		return
	}
	err := e.cfg.Service(e.facts.Unit).Check(ctx)
	if err == nil {
		return
	}
	e.report.Containerd.RestartRefused = err.Error()
	if e.facts.NeedsPath != "" && e.facts.Preflight != containerd.Unsupported { // else people set config_path, and restart
		e.report.Problems = append(e.report.Problems, "containerd must be restarted for a switch: "+err.Error())
	}
}

// directories reports our host directories, and what we would add to the users'.
func (e *examination) directories() error {
	l, options, err := e.layoutOrExample()
	if err != nil {
		return err
	}
	tree, err := hostsdir.Render(l, options)
	if err != nil {
		return err
	}
	effective := cmp.Or(e.facts.Effective, e.facts.NeedsPath)
	root := filepath.Join("/proc", strconv.Itoa(e.facts.PID), "root")
	plan := usermirror.NewPlan(usermirror.Node{Root: root, Source: e.cfg.SourceDir, Effective: effective, Containerd: e.facts.Version}, l, options)
	e.users(plan)
	for _, d := range plan.Tree(tree) {
		if d.Warning != "" {
			e.report.Warnings = append(e.report.Warnings, d.Warning)
		}
	}
	if e.facts.Preflight != containerd.Ready {
		return nil // an agent would write nothing
	}
	users, err := plan.Check()
	if err != nil {
		e.report.Problems = append(e.report.Problems, err.Error())
	}
	for _, edit := range users.Edits {
		e.report.Changes = append(e.report.Changes, Change{
			File: edit.File, What: "lead containerd to the agent first", Diff: unified(edit.File, edit.Before, edit.After),
		})
	}
	return e.ours(plan.Tree(tree), effective)
}

// ours reports the host directories that are completely ours.
func (e *examination) ours(tree hostsdir.Tree, effective string) error {
	var wanted []string
	folder, err := hostsdir.OpenDir(e.facts.HostsDir)
	switch {
	case errors.Is(err, os.ErrNotExist):
		for _, d := range tree {
			for _, f := range d.Files {
				wanted = append(wanted, d.Host+"/"+f.Name)
			}
		}
	case err != nil:
		return err
	default:
		defer func() { _ = folder.Close() }()
		res, err := hostsdir.Check(folder, tree)
		if err != nil {
			return err
		}
		wanted = res.Written
		for _, c := range res.Conflicts {
			e.report.Warnings = append(e.report.Warnings, fmt.Sprintf("%s: %s is in the way: %s", c.Host, filepath.Join(effective, c.Directory), c.Reason))
		}
	}
	for _, name := range wanted {
		e.report.Changes = append(e.report.Changes, Change{File: filepath.Join(effective, name), What: "write an entry of ours"})
	}
	return nil
}

// layoutOrExample is what the node serves, or an example before the first layout.
func (e *examination) layoutOrExample() (layout.Layout, hostsdir.Options, error) {
	folder := handoff.Existing(e.cfg.StateDir)
	options := hostsdir.Options{AgentURL: "https://" + e.cfg.Listen, Containerd: e.facts.Version}
	token, err := folder.Token()
	if err != nil {
		token = "made-when-the-agent-starts"
	}
	ca, err := folder.CA()
	if err != nil {
		made, err := pki.NewCA(time.Now(), nil)
		if err != nil {
			return layout.Layout{}, options, err
		}
		ca = made.Cert
	}
	options.Token, options.AgentCA = token, ca
	l, err := folder.Layout()
	if err != nil || l.IsZero() {
		target := upstream.Upstream{Host: "registry.invalid", Scheme: upstream.HTTPS}
		l = layout.Layout{Target: target, Routes: layout.Cross([]layout.Name{layout.Fixed()}, []upstream.Upstream{target})}
	}
	return l, options, nil
}

// users reports the users' directories, and what is wrong with them.
func (e *examination) users(plan usermirror.Plan) {
	for _, h := range plan.Hosts {
		u := User{Host: h.Name, File: h.File, NeedsAgent: h.NeedsAgent}
		for _, endpoint := range h.Endpoints {
			if endpoint.URL != "" {
				u.Mirrors = append(u.Mirrors, address(endpoint.URL))
			}
		}
		e.report.Users = append(e.report.Users, u)
	}
	for _, p := range plan.Problems {
		list := &e.report.Problems
		if p.Harmless {
			list = &e.report.Warnings
		}
		*list = append(*list, p.String())
	}
	for _, c := range plan.Claims {
		e.report.Warnings = append(e.report.Warnings, c.Text)
	}
}

// address is that of a mirror, without a password.
func address(mirror string) string {
	u, err := url.Parse(mirror)
	if err != nil {
		return "an address that cannot be read"
	}
	return u.Redacted()
}

// mainFile reports the edit of containerd's main file, if one is needed.
func (e *examination) mainFile() {
	f, r := e.facts, e.report
	if f.NeedsPath == "" || f.Preflight != containerd.Ready {
		return
	}
	path := filepath.Join("/proc", strconv.Itoa(f.PID), "root", f.PathFile)
	before, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		r.Problems = append(r.Problems, f.PathFile+" cannot be read: "+err.Error())
		return
	}
	after, err := mainfile.SetConfigPath(before, f.Major(), f.NeedsPath)
	var refusal *mainfile.Refusal
	switch {
	case errors.As(err, &refusal) && refusal.Line > 0:
		r.Problems = append(r.Problems, f.PathFile+":"+strconv.Itoa(refusal.Line)+": "+refusal.Sentence)
	case err != nil:
		r.Problems = append(r.Problems, f.PathFile+": "+err.Error())
	default:
		r.Restart = true
		r.Changes = append(r.Changes, Change{
			File: f.PathFile, What: "set config_path, then restart containerd once: " + f.NeedsPathReason,
			Diff: unified(f.PathFile, before, after),
		})
	}
}
