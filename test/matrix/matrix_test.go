package matrix_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	registryv1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/node/containerd"
	"github.com/d8-registry/registry/internal/upstream"
	"github.com/d8-registry/registry/test/harness/apiserver"
	"github.com/d8-registry/registry/test/harness/containerdtest"
)

var server apiserver.Server

// Tests run in a network and mount namespace of their own.
func TestMain(m *testing.M) {
	if config := os.Getenv(childEnv); config != "" {
		fmt.Fprintln(os.Stderr, "agent:", runChild(config))
		os.Exit(1)
	}
	os.Exit(containerdtest.Isolate(func() int { return server.Main(m) }))
}

// TestMatrix takes every kind of node to Direct and all the way back.
func TestMatrix(t *testing.T) {
	t.Parallel()
	for _, s := range scenarios() {
		for _, v := range containerdtest.Versions() {
			t.Run(s.name+"/"+string(v), func(t *testing.T) {
				t.Parallel()
				c := newCell(t, v, s)
				w := s.want(v)
				approved := c.node.Approve()
				c.node.Start()
				c.node.Publish(direct(c.a))
				c.preflight(t, s, w)
				if w.stuck {
					return
				}
				c.switched(t, s, w)
				c.returned(t, w)
				if got := approved.IDs(); len(got) != 2*w.restarts {
					t.Errorf("approved: %v, want %d", got, 2*w.restarts)
				}
			})
		}
	}
}

// direct is the layout of a switch to Direct.
func direct(a upstream.Upstream) layout.Layout {
	return layout.Layout{
		Mode: "Direct", Active: a, Target: a,
		Routes: layout.Cross([]layout.Name{layout.Fixed(), layout.NameOf(a)}, []upstream.Upstream{a}),
	}
}

// preflight checks the verdict, and that nothing was touched under it if it is
// not that all is well. Then the operator does what it says.
func (c *cell) preflight(t *testing.T, s scenario, w want) {
	t.Helper()
	status := c.node.Until("preflight "+w.preflight, func(s registryv1alpha1.RegistryNodeStatus) bool {
		return s.Preflight == w.preflight
	})
	for _, word := range w.words {
		if word = strings.ReplaceAll(c.texts.Replace(word), "@", c.containerd.Dir); !strings.Contains(status.Message, word) {
			t.Errorf("preflight says %q, want %q in it", status.Message, word)
		}
	}
	if w.preflight == string(containerd.Ready) {
		return
	}
	if status.Generation != 0 || status.Restart != nil || strings.Contains(status.Message, "hidden") {
		t.Errorf("under preflight %s: %+v", w.preflight, status)
	}
	c.untouched(t, "under preflight "+w.preflight)
	c.undisturbed(t, "under preflight "+w.preflight, 0)
	if s.repair != nil {
		s.repair(t, c)
	}
}

// switched checks the node in Direct.
func (c *cell) switched(t *testing.T, s scenario, w want) {
	t.Helper()
	status := c.node.Reported()
	if status.Preflight != string(containerd.Ready) || status.Containerd.EffectiveDirectory != filepath.Join(c.containerd.Dir, w.effective) {
		t.Errorf("in Direct: %+v", status)
	}
	c.undisturbed(t, "in Direct", w.restarts)
	for _, ref := range append([]string{layout.Fixed().Reference("app:v1"), c.a.Base() + "/app:v1"}, s.pulls...) {
		if err := c.node.Pull(ref); err != nil {
			t.Errorf("in Direct: %v", err)
		}
	}
	_, err := os.Stat(filepath.Join(c.containerd.Dir, w.effective, layout.Fixed().Host, "hosts.toml"))
	if err != nil {
		t.Error(err)
	}
	c.unchanged(t, "in Direct", func(name string) bool { // what may differ while we are there
		return w.restarts > 0 && name == "config.toml" || slices.Contains(s.blocks, strings.Replace(name, c.a.Host, "HOST-A", 1))
	})
}

// returned checks the node in Unmanaged, and where it was before us.
func (c *cell) returned(t *testing.T, w want) {
	t.Helper()
	l := direct(c.a)
	l.Mode, l.Routes = "Unmanaged", layout.Cross([]layout.Name{layout.NameOf(c.a)}, []upstream.Upstream{c.a})
	c.node.Publish(l)
	c.node.Reported()
	c.undisturbed(t, "in Unmanaged", w.restarts)
	if err := c.node.Pull(c.a.Base() + "/app:v1"); err != nil {
		t.Errorf("in Unmanaged: %v", err)
	}
	c.node.OrderLegacy()
	status := c.node.Until("the legacy format", func(s registryv1alpha1.RegistryNodeStatus) bool { return s.Legacy })
	if status.Generation != 0 || status.Restart != nil || status.Message != "" {
		t.Errorf("after the way back: %+v", status)
	}
	c.undisturbed(t, "after the way back", 2*w.restarts)
	c.untouched(t, "at the end")
}
