package matrix_test

import (
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/d8-registry/registry/internal/upstream"
	"github.com/d8-registry/registry/test/harness/agenttest"
	"github.com/d8-registry/registry/test/harness/containerdtest"
	"github.com/d8-registry/registry/test/harness/testregistry"
)

// cell is one scenario on one containerd.
type cell struct {
	containerd *containerdtest.Containerd
	node       *agenttest.Node
	a, u       upstream.Upstream // the platform's registry and the user's
	running    []string
	before     map[string]file // what the node has to be at the end
	texts      *strings.Replacer
	operator   int // restarts by the operator
}

// newCell prepares the node and lets a pod run on it.
func newCell(t *testing.T, v containerdtest.Version, s scenario) *cell {
	t.Helper()
	c := &cell{containerd: containerdtest.NewVersion(t, v)}
	c.a, c.u = registry(t, "team/a"), registry(t, "mirror")
	drop, other := "conf.d", "conf2.d"
	if !v.One() {
		drop, other = other, drop
	}
	c.texts = strings.NewReplacer("REGISTRY", c.containerd.RegistryTable(), "GPU", gpu(v), "CA-A", c.a.CA, "CA-U", c.u.CA,
		"HOST-A", c.a.Host, "HOST-U", c.u.Host, "CONF-D", drop, "CONF-OTHER", other)
	if s.at != "" {
		c.containerd.ConfigFile = filepath.Join(c.containerd.Dir, s.at)
	}
	c.containerd.Main(t, s.head+c.containerd.Base()+c.texts.Replace(s.main))
	for name, text := range s.files {
		c.containerd.Write(t, c.texts.Replace(name), c.texts.Replace(text))
	}
	c.node = agenttest.New(t, server.Start(t), c.containerd)
	c.containerd.RunPod(t)
	c.running = c.containerd.Running()
	if len(c.running) != 2 {
		t.Fatalf("running: %v", c.running)
	}
	if s.breaks != nil {
		s.breaks(t, c)
	}
	c.before = c.files(t)
	return c
}

// registry has PATH/app:v1 in it and wants TLS with its own CA and a password.
func registry(t *testing.T, path string) upstream.Upstream {
	t.Helper()
	r := testregistry.New(t, testregistry.Options{TLS: true, Username: "user", Password: "password"})
	r.PushRandom(t, path+"/app", "v1", 1, 256)
	return r.Upstream(path)
}

// rewrite is what an operator does to a file of the node, with the agent
// looking on: its text becomes another one, or it goes.
func (c *cell) rewrite(t *testing.T, name string, change func(text string) (string, bool)) {
	t.Helper()
	name = c.texts.Replace(name)
	path := filepath.Join(c.containerd.Dir, name)
	old, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	text, stays := change(string(old))
	if !stays {
		delete(c.before, name)
		err = os.Remove(path)
	} else {
		if c.before != nil {
			c.before[name] = file{text, 0o600}
		}
		err = os.WriteFile(path, []byte(text), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// restart is an operator who restarts containerd.
func (c *cell) restart(t *testing.T) {
	t.Helper()
	c.operator++
	c.containerd.Restart(t)
}

func removed(string) (string, bool) { return "", false }

// file is what may not change of a file.
type file struct {
	text string
	mode fs.FileMode
}

// files are all files of the node that are of interest to people.
func (c *cell) files(t *testing.T) map[string]file {
	t.Helper()
	out := map[string]file{}
	err := filepath.WalkDir(c.containerd.Dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := strings.TrimPrefix(path, c.containerd.Dir+"/")
		switch name {
		case "root", "state", "opt", "cni", "pods":
			return fs.SkipDir
		case "log", "pause.tar":
			return nil
		}
		if !d.Type().IsRegular() {
			return nil
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		text, err := os.ReadFile(path)
		out[name] = file{string(text), info.Mode()}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// unchanged compares the files of the node with what they were.
func (c *cell) unchanged(t *testing.T, when string, ours func(name string) bool) {
	t.Helper()
	after := c.files(t)
	for name, f := range c.before {
		if got, ok := after[name]; !ok {
			t.Errorf("%s: %s is gone", when, name)
		} else if got != f && !ours(name) {
			t.Errorf("%s: %s is %v\n%s\nwas %v\n%s", when, name, got.mode, got.text, f.mode, f.text)
		}
	}
}

// untouched compares the other way too: nothing of ours is there.
func (c *cell) untouched(t *testing.T, when string) {
	t.Helper()
	c.unchanged(t, when, func(string) bool { return false })
	for _, name := range slices.Sorted(maps.Keys(c.files(t))) {
		if _, ok := c.before[name]; !ok {
			t.Errorf("%s: %s is there", when, name)
		}
	}
}

// undisturbed checks that the pod ran all the time, and counts restarts.
func (c *cell) undisturbed(t *testing.T, when string, restarts int) {
	t.Helper()
	if got := c.containerd.Running(); !slices.Equal(got, c.running) {
		t.Errorf("%s: running %v, were %v", when, got, c.running)
	}
	if got := c.containerd.Starts() - 1 - c.operator; got != restarts {
		t.Errorf("%s: containerd was restarted %d times, want %d", when, got, restarts)
	}
}
