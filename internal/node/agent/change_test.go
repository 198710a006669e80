package agent_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	registryv1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/upstream"
	"github.com/d8-registry/registry/test/harness/containerdtest"
)

// TestFirstSwitchAndBack is a node whose containerd looks into no host
// directory: it is told to by one approved restart, and to forget it by
// another. Containers live through both.
func TestFirstSwitchAndBack(t *testing.T) {
	t.Parallel()
	for _, version := range containerdtest.Versions() {
		t.Run(string(version), func(t *testing.T) {
			t.Parallel()
			c := containerdtest.NewVersion(t, version)
			w := worldOn(t, c)
			w.must(os.Chmod(c.ConfigFile, 0o640))
			before := mainFile(t, c)
			c.RunPod(t)
			running := c.Running()
			_, a := registry(t, "team/a")
			w.start()
			w.until("a first look", func(s registryv1alpha1.RegistryNodeStatus) bool {
				return s.Preflight == "Ready" && s.Restart == nil && s.Legacy && s.Containerd.EffectiveDirectory == "" &&
					s.Containerd.ConfigFile == c.ConfigFile && s.Containerd.SandboxImage != ""
			})

			w.publishLayout(w.unmanaged(a))
			s := w.approve()
			if s.Generation != 0 || !strings.Contains(s.Message, s.Restart.Message) || s.Legacy || len(s.Redirects) != 2 || s.Redirects[0].Proved {
				t.Errorf("while it waits: %+v", s)
			}
			if got := mainFile(t, c); got != before || c.Starts() != 1 {
				t.Errorf("changed without approval, or started %d times:\n%s", c.Starts(), got)
			}
			s = w.reported()
			if s.Restart != nil || s.Message != "" || s.Containerd.EffectiveDirectory != w.node.SourceDir || c.Starts() != 2 {
				t.Errorf("after it, with %d starts: %+v", c.Starts(), s)
			}
			w.must(w.pull(layout.Fixed().Reference("app:v1")))
			w.must(w.pull(layout.NameOf(a).Reference("app:v1")))
			if got := c.Running(); !slices.Equal(got, running) {
				t.Errorf("containers %q, before %q", got, running)
			}
			// A new agent has nothing to change.
			w.stopNode()
			w.startNode()
			w.publishLayout(w.unmanaged(a))
			w.reported()

			w.must(w.api.Client().Delete(t.Context(), w.secret))
			w.secret = nil
			w.order(func(spec *registryv1alpha1.RegistryNodeSpec) { spec.Legacy = true })
			// The restart cuts off a pull that is under way.
			s = w.approve(func() {
				if err := w.pull(layout.Fixed().Reference("app:v1")); err != nil {
					t.Errorf("while the way back waits: %v", err)
				}
			})
			if s.Legacy || s.Generation != 0 {
				t.Errorf("while the way back waits: %+v", s)
			}
			s = w.until("the legacy format", func(s registryv1alpha1.RegistryNodeStatus) bool { return s.Legacy })
			if s.Restart != nil || s.Message != "" || c.Starts() != 3 {
				t.Errorf("back, with %d starts: %+v", c.Starts(), s)
			}
			if got := mainFile(t, c); got != before {
				t.Errorf("main file:\n%s\nwant:\n%s", got, before)
			}
			if left, err := os.ReadDir(w.node.SourceDir); err != nil || len(left) > 0 {
				t.Errorf("left behind: %v, %v", left, err)
			}
			if got := c.Running(); !slices.Equal(got, running) {
				t.Errorf("containers %q, before %q", got, running)
			}
		})
	}
}

// unmanaged is the next generation, of the mode that a node may go back from.
func (w *world) unmanaged(u upstream.Upstream) layout.Layout {
	w.generation++
	return layout.Layout{
		Schema: layout.Schema, Generation: w.generation, Mode: "Unmanaged", Active: u, Target: u,
		Routes: layout.Cross([]layout.Name{layout.Fixed(), layout.NameOf(u)}, []upstream.Upstream{u}),
	}
}

// mainFile is everything of containerd's main file that must be as before.
func mainFile(t *testing.T, c *containerdtest.Containerd) string {
	t.Helper()
	data, err := os.ReadFile(c.ConfigFile)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(c.ConfigFile)
	if err != nil {
		t.Fatal(err)
	}
	return info.Mode().String() + "\n" + string(data)
}

// TestConfigPathIsEnough: a containerd that looks somewhere already is neither
// edited nor restarted, whatever its version.
func TestConfigPathIsEnough(t *testing.T) {
	t.Parallel()
	for _, version := range containerdtest.Versions() {
		for name, path := range map[string]string{"one": "@/certs.d", "list": "@/certs.d:@/other"} {
			if name == "list" && version == containerdtest.V2 {
				continue // see TestListPath
			}
			t.Run(string(version)+" "+name, func(t *testing.T) {
				t.Parallel()
				c := containerdtest.NewVersion(t, version)
				c.Configure(t, "["+c.RegistryTable()+"]\n  config_path = \""+path+"\"\n")
				before := mainFile(t, c)
				w := worldOn(t, c)
				_, a := registry(t, "team/a")
				w.start()
				w.publish(a, []layout.Name{layout.Fixed()})
				if s := w.reported(); s.Restart != nil || s.Message != "" || s.Containerd.EffectiveDirectory != c.HostsDir {
					t.Errorf("%+v", s)
				}
				w.must(w.pull(layout.Fixed().Reference("app:v1")))
				if got := mainFile(t, c); got != before || c.Starts() != 1 {
					t.Errorf("%d starts:\n%s", c.Starts(), got)
				}
			})
		}
	}
}

// TestListPath: the transfer service takes a list for the name of one
// directory, which nobody has, so that the list's first entry must become the
// only one.
func TestListPath(t *testing.T) {
	t.Parallel()
	c := containerdtest.NewVersion(t, containerdtest.V2)
	c.Configure(t, "["+c.RegistryTable()+"]\n  config_path = \"@/certs.d:@/other\"\n")
	w := worldOn(t, c)
	_, a := registry(t, "team/a")
	w.start()
	w.publish(a, []layout.Name{layout.Fixed()})
	s := w.approve()
	if s.Generation != 0 || s.Redirects[0].Proved {
		t.Errorf("%+v", s)
	}
	// What it will be sent to is there before.
	if _, err := os.Stat(filepath.Join(c.HostsDir, fixedHost, "hosts.toml")); err != nil {
		t.Error(err)
	}
	if s := w.reported(); s.Restart != nil || s.Containerd.EffectiveDirectory != c.HostsDir || c.Starts() != 2 {
		t.Errorf("%d starts: %+v", c.Starts(), s)
	}
}

// TestConfigPathIsLost: somebody puts the old main file back, and containerd
// starts with it. The report is taken back, and the same change is approved
// again.
func TestConfigPathIsLost(t *testing.T) {
	t.Parallel()
	c := containerdtest.NewVersion(t, containerdtest.V17)
	w := worldOn(t, c)
	_, a := registry(t, "team/a")
	w.start()
	w.publish(a, []layout.Name{layout.Fixed()})
	w.approve()
	w.reported()
	w.order(func(spec *registryv1alpha1.RegistryNodeSpec) { spec.ApprovedRestart = "" }) // as the controller does

	c.Configure(t, "")
	c.Restart(t)
	w.until("the report's withdrawal", func(s registryv1alpha1.RegistryNodeStatus) bool {
		return s.Generation == 0 && s.Restart != nil && s.Restart.Phase == registryv1alpha1.RestartWaiting && !s.Redirects[0].Proved
	})
	w.approve()
	w.reported()
}

// TestConfigurationThatWasNotRead: config_path was set by hand, but containerd
// was not restarted. The agent does not edit anything, but asks for the restart.
func TestConfigurationThatWasNotRead(t *testing.T) {
	t.Parallel()
	c := containerdtest.NewVersion(t, containerdtest.V17)
	w := worldOn(t, c)
	c.Configure(t, "["+c.RegistryTable()+"]\n  config_path = \"@/certs.d\"\n")
	later := time.Now().Add(5 * time.Second) // the file is written long after the start
	w.must(os.Chtimes(c.ConfigFile, later, later))
	before := mainFile(t, c)
	_, a := registry(t, "team/a")
	w.start()
	w.publish(a, []layout.Name{layout.Fixed()})
	s := w.approve()
	if s.Redirects[0].Proved || !strings.Contains(s.Message, "it has not read "+c.ConfigFile) {
		t.Errorf("%+v", s)
	}
	w.reported()
	if got := mainFile(t, c); got != before || c.Starts() != 2 {
		t.Errorf("%d starts:\n%s", c.Starts(), got)
	}
}

// TestNoWayToRestart: where containerd cannot be restarted nothing is changed,
// and why is said.
func TestNoWayToRestart(t *testing.T) {
	t.Parallel()
	c := containerdtest.NewVersion(t, containerdtest.V17)
	before := mainFile(t, c)
	w := worldOn(t, c)
	w.node.Service = &service{containerd: c, refuses: errors.New("KillMode of the unit is control-group")}
	_, a := registry(t, "team/a")
	w.start()
	w.publish(a, []layout.Name{layout.Fixed()})
	s := w.until("the word about it", func(s registryv1alpha1.RegistryNodeStatus) bool {
		return strings.Contains(s.Message, "KillMode of the unit is control-group")
	})
	if s.Generation != 0 || s.Restart != nil && s.Restart.Phase != registryv1alpha1.RestartFailed {
		t.Errorf("%+v", s)
	}
	if got := mainFile(t, c); got != before || c.Starts() != 1 {
		t.Errorf("%d starts:\n%s", c.Starts(), got)
	}
}
