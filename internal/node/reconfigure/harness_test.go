package reconfigure_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pelletier/go-toml/v2"

	"github.com/d8-registry/registry/internal/node/durable"
	"github.com/d8-registry/registry/internal/node/reconfigure"
)

const (
	hosts    = "/etc/containerd/registry.d"
	original = "version = 2 # theirs\n[plugins.'io.containerd.grpc.v1.cri']\n  sandbox_image = 'pause' # theirs\n"
	backup   = "registry-agent-backup"
)

// node is a machine whose containerd is pretended; its files are real.
type node struct {
	t           *testing.T
	root, state string

	boot, run  int    // the instance; run 0 is dead
	loaded     string // the main file as this containerd read it
	restarts   int    // that were ordered
	cuts       int    // ... while containerd was alive
	starts     int
	containers map[string]bool

	refuse      error                     // of the service
	bad         func(file string) error   // containerd does not start with this file
	deaf        func(file string) error   // ... starts, but its CRI does not answer
	lazy        bool                      // a restart does nothing
	proves      func(loaded string) error // nil is: if it has the path
	rejects     func(file string) bool    // `config dump` fails
	onRestart   func()
	reports     []reconfigure.Status
	imported    string // more of the configuration, from elsewhere
	interrupted func() error
}

func newNode(t *testing.T, main string) *node {
	t.Helper()
	n := &node{t: t, root: memory(t), state: memory(t), boot: 1, run: 1, containers: map[string]bool{"a": true, "b": true}}
	if err := os.MkdirAll(filepath.Join(n.root, "etc/containerd"), 0o750); err != nil {
		t.Fatal(err)
	}
	if main != "" {
		n.write(main)
	}
	n.loaded = main
	return n
}

func (n *node) file() string { return filepath.Join(n.root, "etc/containerd/config.toml") }

func (n *node) write(main string) {
	n.t.Helper()
	if err := os.WriteFile(n.file(), []byte(main), 0o640); err != nil {
		n.t.Fatal(err)
	}
}

// read is the main file; empty if there is none.
func (n *node) read() string {
	n.t.Helper()
	data, err := os.ReadFile(n.file())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		n.t.Fatal(err)
	}
	return string(data)
}

// beside are the other files in the main file's directory.
func (n *node) beside() []string {
	n.t.Helper()
	entries, err := os.ReadDir(filepath.Dir(n.file()))
	if err != nil {
		n.t.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		if name, ok := strings.CutPrefix(e.Name(), "config.toml."); ok {
			out = append(out, name)
		}
	}
	return out
}

func (n *node) want() reconfigure.Want {
	return reconfigure.Want{File: n.file(), Shown: "/etc/containerd/config.toml", Major: 1, Path: hosts}
}

func (n *node) back() reconfigure.Want {
	w := n.want()
	w.Path, w.Legacy = "", true
	return w
}

// agent is one run of the agent's program; fsys nil is the real one.
func (n *node) agent(fsys durable.FS) *reconfigure.Reconfigurer {
	return reconfigure.New(reconfigure.Options{
		Log: slog.New(slog.DiscardHandler), State: n.state, Runtime: n, Service: n, FS: fsys,
		Prove: n.prove, Report: func(_ context.Context, s reconfigure.Status) { n.reports = append(n.reports, s) },
		Limits: reconfigure.Limits{Restart: time.Second, Answer: 30 * time.Millisecond, Prove: 30 * time.Millisecond, Retry: 5 * time.Millisecond},
	})
}

// pass is one pass of a new run of the agent.
func (n *node) pass(w reconfigure.Want, approved string) reconfigure.Status {
	n.t.Helper()
	s, err := n.agent(nil).Pass(n.t.Context(), w, approved)
	if err != nil {
		n.t.Fatal(err)
	}
	return s
}

// approve passes until nothing waits for approval, approving what waits.
func (n *node) approve(w reconfigure.Want) reconfigure.Status {
	n.t.Helper()
	s := n.pass(w, "")
	for range 3 {
		if s.Phase != reconfigure.Waiting {
			break
		}
		s = n.pass(w, s.ID)
	}
	return s
}

func (n *node) interrupt() error {
	if n.interrupted != nil {
		return n.interrupted()
	}
	return nil
}

// Instance implements reconfigure.Runtime.
func (n *node) Instance(context.Context) (string, error) {
	if err := n.interrupt(); err != nil {
		return "", err
	}
	if n.run == 0 {
		return "", errors.New("connection refused")
	}
	return fmt.Sprintf("%d/%d", n.boot, n.run), nil
}

// DumpConfig implements reconfigure.Runtime.
func (n *node) DumpConfig(_ context.Context, file string) ([]byte, error) {
	if err := n.interrupt(); err != nil {
		return nil, err
	}
	file = filepath.Join(n.root, file)
	if to, err := os.Readlink(file); err == nil {
		file = filepath.Join(n.root, to)
	}
	data, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if n.rejects != nil && n.rejects(string(data)) {
		return nil, errors.New("exit status 1")
	}
	tree := map[string]any{}
	if err := toml.Unmarshal(data, &tree); err != nil {
		return nil, err
	}
	var more map[string]any
	if err := toml.Unmarshal([]byte(n.imported), &more); err != nil {
		return nil, err
	}
	for k, v := range more {
		tree[k] = v // as 1.x does: whole tables
	}
	delete(tree, "version")
	return toml.Marshal(tree)
}

// Answers implements reconfigure.Runtime.
func (n *node) Answers(context.Context) error {
	if err := n.interrupt(); err != nil {
		return err
	}
	if n.run == 0 {
		return errors.New("connection refused")
	}
	if n.deaf != nil {
		return n.deaf(n.loaded)
	}
	return nil
}

// Containers implements reconfigure.Runtime.
func (n *node) Containers(context.Context) ([]string, error) {
	var out []string
	for id := range n.containers {
		out = append(out, id)
	}
	slices.Sort(out)
	return out, n.interrupt()
}

// Lost implements reconfigure.Runtime.
func (n *node) Lost(_ context.Context, before []string) ([]string, error) {
	var out []string
	for _, id := range before {
		if !n.containers[id] {
			out = append(out, id)
		}
	}
	return out, n.interrupt()
}

// Check implements reconfigure.Service.
func (n *node) Check(context.Context) error { return errors.Join(n.refuse, n.interrupt()) }

// Restart implements reconfigure.Service.
func (n *node) Restart(context.Context) error {
	if err := n.interrupt(); err != nil {
		return err
	}
	if n.lazy {
		return nil
	}
	n.restarts++
	if n.run != 0 {
		n.cuts++
	}
	if n.onRestart != nil {
		n.onRestart()
	}
	return n.start()
}

// start is what systemd does, asked or not.
func (n *node) start() error {
	n.loaded = n.read()
	if n.bad != nil {
		if err := n.bad(n.loaded); err != nil {
			n.run = 0
			return err
		}
	}
	n.starts++
	n.run = n.starts + 1
	return nil
}

func (n *node) prove(_ context.Context, path string) error {
	if err := n.interrupt(); err != nil {
		return err
	}
	if n.proves != nil {
		return n.proves(n.loaded)
	}
	if path != "" && !strings.Contains(n.loaded, path) {
		return errors.New("no request came")
	}
	return nil
}

// broken is why containerd does not start with a file that has our edit.
func broken(file string) error {
	if strings.Contains(file, hosts) {
		return errors.New("the job ended with: failed")
	}
	return nil
}

// whole checks what holds after every end: nothing of ours is left over, and
// containerd runs.
func (n *node) whole() {
	n.t.Helper()
	for _, name := range n.beside() {
		if name != backup {
			n.t.Errorf("%s was left over", name)
		}
	}
	if n.run == 0 {
		n.t.Error("containerd is dead")
	}
	if n.loaded != n.read() {
		n.t.Errorf("containerd runs with\n%s\nand the file is\n%s", n.loaded, n.read())
	}
	if _, err := os.Stat(filepath.Join(n.state, "reconfigure.json")); err == nil {
		n.t.Error("the journal was left over")
	}
}
