package hosts

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/node/containerd"
	"github.com/d8-registry/registry/internal/node/hostsdir"
	"github.com/d8-registry/registry/internal/node/report"
	"github.com/d8-registry/registry/internal/pki"
	"github.com/d8-registry/registry/internal/upstream"
)

// node is a machine with containerd as process 7, and a serving half. It records
// what the Keeper does to the serving half, in order.
type node struct {
	t       *testing.T
	root    string
	k       *Keeper
	saved   Places
	now     time.Time
	target  Target
	told    []string
	refuses string // what the serving half does not do
}

const certsD = "/etc/containerd/certs.d"

func newNode(t *testing.T) *node {
	t.Helper()
	ca, err := pki.NewCA(time.Now(), nil)
	if err != nil {
		t.Fatal(err)
	}
	n := &node{t: t, root: t.TempDir(), now: time.Now()}
	u := upstream.Upstream{Host: "a.example.com", Scheme: upstream.HTTPS}
	n.target = Target{
		Layout: layout.Layout{Generation: 1, Target: u, Active: u, Routes: layout.Cross([]layout.Name{layout.Fixed()}, []upstream.Upstream{u})},
		Agent:  hostsdir.Options{AgentURL: "https://127.0.0.1:5001", Token: strings.Repeat("t", 32), AgentCA: ca.Cert},
		Facts:  n.facts(certsD, "run-1"),
		Serve:  n,
	}
	n.restart()
	return n
}

// restart is a new run of the agent.
func (n *node) restart() {
	n.t.Helper()
	proc := n.t.TempDir()
	if err := os.MkdirAll(filepath.Join(proc, "7"), 0o700); err != nil {
		n.t.Fatal(err)
	}
	if err := os.Symlink(n.root, filepath.Join(proc, "7", "root")); err != nil {
		n.t.Fatal(err)
	}
	n.k = New(Options{
		SourceDir: "/etc/containerd/registry.d", State: n, Watch: func([]string) {}, Log: slog.New(slog.DiscardHandler),
		Places: n.saved, Save: func(p Places) { n.saved = p },
	})
	n.k.proc = proc
	n.k.now = func() time.Time { return n.now }
}

func (n *node) facts(dir, instance string) *containerd.Facts {
	return &containerd.Facts{
		PID: 7, Instance: instance, Effective: dir, HostsDir: filepath.Join(n.root, dir), Preflight: containerd.Ready,
	}
}

func (n *node) tell(what string) error {
	n.told = append(n.told, what)
	if what == n.refuses {
		return errors.New("the serving half is away")
	}
	return nil
}

func (n *node) SaveMirrors([]upstream.UserHost) (bool, error) { return false, n.tell("save mirrors") }
func (n *node) Mirrors(context.Context) error                 { return n.tell("mirrors") }
func (n *node) Applied(context.Context, int64) error          { return n.tell("applied") }

// converge makes one pass, and returns what was reported.
func (n *node) converge() (bool, *report.Report) {
	n.t.Helper()
	r := report.New(report.Options{}).Begin()
	return n.k.Converge(n.t.Context(), r, n.target), r
}

func (n *node) ours(dir string) bool {
	_, err := os.Stat(filepath.Join(n.root, dir, layout.Fixed().Host, "hosts.toml"))
	return err == nil
}

// TestTheServingHalfIsFirstAndLast: it has users' mirrors before containerd is
// sent to it, and drops names only when no entry has them any more.
func TestTheServingHalfIsFirstAndLast(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	n.refuses = "mirrors"
	if ok, r := n.converge(); ok || n.ours(certsD) || len(r.Problems()) != 1 {
		t.Errorf("written before the serving half was ready: %q", r.Problems())
	}
	n.refuses = "applied"
	if ok, _ := n.converge(); ok || !n.ours(certsD) {
		t.Error("the last word of the serving half is missing")
	}
	n.refuses, n.told = "", nil
	ok, r := n.converge()
	if !ok || len(r.Problems()) != 0 || !slices.Equal(n.told, []string{"save mirrors", "applied"}) {
		t.Errorf("%q; told %q", r.Problems(), n.told)
	}
}

// TestTheVersionOfContainerd decides about the form of our entries and about users'
// files, and others of the registry's host are warned of plain HTTP.
func TestTheVersionOfContainerd(t *testing.T) {
	t.Parallel()
	for version, want := range map[string][]string{
		"1.7.20": {`"https://[fd00::10]:5001".ca = "second-way.crt"`, "/registry.d/six.io/hosts.toml:1: containerd 1.7.20 cannot read brackets"},
		"2.4.2":  {`[host."https://[fd00::10]:5001"]`, ""},
	} {
		n := newNode(t)
		n.target.Facts.Version = version
		u := upstream.Upstream{Host: "a.example.com", Path: "d8", Scheme: upstream.HTTP}
		n.target.Layout.Target, n.target.Layout.Active = u, u
		n.target.Layout.Routes = layout.Cross([]layout.Name{layout.Fixed(), layout.NameOf(u)}, []upstream.Upstream{u})
		n.target.Layout.Fallback = layout.Fallback{Host: "[fd00::10]:5001", CA: n.target.Agent.AgentCA}
		dir := filepath.Join(n.root, "/etc/containerd/registry.d/six.io")
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "hosts.toml"), []byte("[host.\"https://[fd00::1]:5000\"]\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		ok, r := n.converge()
		file, err := os.ReadFile(filepath.Join(n.root, certsD, layout.Fixed().Host, "hosts.toml"))
		if !ok || err != nil || !strings.Contains(string(file), want[0]) {
			t.Errorf("%s: %t, %v\n%s", version, ok, err, file)
		}
		said := strings.Join(r.Status.Warnings, "\n")
		if !strings.Contains(said, want[1]) || strings.Contains(said, "brackets") != (want[1] != "") || !strings.Contains(said, "a.example.com is asked by plain HTTP where HTTPS fails") {
			t.Errorf("%s: %s", version, said)
		}
		n.target.Layout.ActiveMode = "Direct" // the proxy is proved
		if _, r = n.converge(); strings.Contains(strings.Join(r.Status.Warnings, ""), "plain HTTP") {
			t.Errorf("%s: %v", version, r.Status.Warnings)
		}
	}
}

// TestChangesByHandAreUndone, and the report says so for a while.
func TestChangesByHandAreUndone(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	if ok, r := n.converge(); !ok {
		t.Fatal(r.Problems())
	}
	file := filepath.Join(n.root, certsD, layout.Fixed().Host, "hosts.toml")
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	for _, after := range []time.Duration{0, repairedFor - time.Second} {
		n.now = n.now.Add(after)
		if ok, r := n.converge(); !ok || !n.ours(certsD) || len(r.Problems()) != 1 || !strings.HasPrefix(r.Problems()[0], "put back what was changed by hand: ") {
			t.Errorf("after %s: %q", after, r.Problems())
		}
	}
	n.now = n.now.Add(2 * repairedFor)
	if _, r := n.converge(); len(r.Problems()) != 0 {
		t.Errorf("long after: %q", r.Problems())
	}
}

// TestNothingIsWrittenOnACustomNode: what a user set up stays, and what is there
// of ours still counts.
func TestNothingIsWrittenOnACustomNode(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	n.target.Facts.Preflight = containerd.Custom
	if ok, _ := n.converge(); ok || n.ours(certsD) || len(n.told) != 0 {
		t.Errorf("written, or told %q", n.told)
	}
	n.target.Facts.Preflight = containerd.Ready
	n.converge()
	n.target.Facts.Preflight = containerd.Custom
	if ok, r := n.converge(); !ok {
		t.Errorf("what is there does not count: %q", r.Problems())
	}
}

// TestTheFormerDirectoryStays until another run of containerd is proved, also
// over a restart of the agent.
func TestTheFormerDirectoryStays(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	n.converge()
	n.target.Facts = n.facts("/elsewhere", "run-1")
	_, r := n.converge()
	if n.k.CleanUp(r, n.target.Facts); !n.ours(certsD) || !n.ours("/elsewhere") {
		t.Fatal("the run of containerd that still looks there lost its entries")
	}
	n.restart()
	n.target.Facts = n.facts("/elsewhere", "run-2")
	_, r = n.converge()
	if n.k.CleanUp(r, n.target.Facts); n.ours(certsD) || !n.ours("/elsewhere") {
		t.Error("the former directory was not cleaned up")
	}
	if len(n.saved.Former) != 0 || n.saved.Present.Directory != "/elsewhere" {
		t.Errorf("%+v", n.saved)
	}
}

// TestRevert takes out what is in the present directory and in former ones.
func TestRevert(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	if !n.k.Untouched(n.target.Facts) {
		t.Error("a fresh node")
	}
	n.converge()
	n.target.Facts = n.facts("/elsewhere", "run-1")
	n.converge()
	if n.k.Untouched(n.target.Facts) {
		t.Error("our entries are there")
	}
	r := report.New(report.Options{}).Begin()
	if !n.k.Revert(t.Context(), r, n, n.target.Facts) || n.ours(certsD) || n.ours("/elsewhere") || !n.k.Untouched(n.target.Facts) {
		t.Errorf("something is left: %q", r.Problems())
	}
	if n.saved.Present != (Place{}) || len(n.saved.Former) != 0 {
		t.Errorf("%+v", n.saved)
	}
}
