package matrix_test

import (
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/upstream"
	"github.com/d8-registry/registry/test/harness/agenttest"
	"github.com/d8-registry/registry/test/harness/containerdtest"
	"github.com/d8-registry/registry/test/harness/testregistry"
)

// TestKillAtEachFileOperation kills the agent, with SIGKILL, before each
// operation on a file that a switch to Direct needs on a containerd 1.x whose
// main configuration has to be edited. Each time containerd can pull, its
// configuration is one that it would start with, and the next agent finishes
// the work and leaves the same files as one that was never killed.
func TestKillAtEachFileOperation(t *testing.T) {
	t.Parallel()
	whole := newLife(t, containerdtest.V17)
	agent := whole.start(t, point{})
	whole.node.Reported()
	_, points := agent.result()
	files := whole.files(t)
	for _, what := range []string{"rename to node/config.toml", "rename to node/registry.d/registry.d8-system.svc:N/hosts.toml", "sync node/config.toml.registry-agent-backup", whole.attribute} {
		if !slices.ContainsFunc(points, func(p point) bool { return strings.HasPrefix(p.what, what) }) {
			t.Errorf("no %q among %v", what, points)
		}
	}
	if slices.ContainsFunc(points, func(p point) bool { return p.what == "remove state/serve/ca.key.new" }) {
		t.Error("a file that never was there is removed: a kill before that changes nothing")
	}
	t.Logf("a switch is %d operations on files and leaves %v", len(points), files)
	for _, p := range someOf(t, points) {
		t.Run(p.String(), func(t *testing.T) {
			t.Parallel()
			l := newLife(t, containerdtest.V17)
			first := l.start(t, p)
			if !l.wait(first) {
				t.Skip("skipped: this time the switch did without that operation")
			}
			l.usable(t)
			l.start(t, point{})
			l.node.Reported()
			l.finished(t, files)
		})
	}
}

// someOf are all points, or one in KILL_EVERY of them, the first of which is
// a different one at each run: a kill takes a node of its own, and seconds.
func someOf(t *testing.T, points []point) []point {
	t.Helper()
	every := 1
	if text := os.Getenv("KILL_EVERY"); text != "" {
		var err error
		if every, err = strconv.Atoi(text); err != nil || every < 1 {
			t.Fatalf("KILL_EVERY=%s: want a number from 1", text)
		}
	}
	first := rand.IntN(every)
	var some []point
	for i := first; i < len(points); i += every {
		some = append(some, points[i])
	}
	t.Logf("killed before %d of them: one in %d, from number %d on", len(some), every, first)
	return some
}

// life is a node that loses its agent.
type life struct {
	node      *agenttest.Node
	restarter *restarter
	a         upstream.Upstream
	running   []string
	attribute string // the operation that keeps an attribute of the main file; empty if there can be none
}

// newLife is a node that looks nowhere for hosts, and a layout that waits for
// its agent. Its registry wants nothing of containerd: it can be pulled from
// with and without us.
func newLife(t *testing.T, v containerdtest.Version) *life {
	t.Helper()
	r := testregistry.New(t, testregistry.Options{})
	r.PushRandom(t, "team/a/app", "v1", 1, 256)
	l := &life{a: r.Upstream("team/a")}
	c := containerdtest.NewVersion(t, v)
	if err := unix.Setxattr(c.ConfigFile, "user.theirs", []byte("kept"), 0); err == nil {
		l.attribute = "attribute node/config.toml.registry-agent-new"
	} else if !errors.Is(err, unix.ENOTSUP) {
		t.Fatal(err)
	}
	l.node = agenttest.New(t, server.Start(t), c)
	l.restarter = newRestarter(t, c)
	c.RunPod(t)
	l.running = c.Running()
	l.node.Approve()
	l.node.Publish(direct(l.a))
	return l
}

func (l *life) start(t *testing.T, target point) *supervisor {
	t.Helper()
	cmd := startChild(t, l.node, l.restarter)
	return supervise(t, cmd, target, map[string]string{"node": l.node.Containerd.Dir, "state": l.node.Config.StateDir})
}

// wait returns when the agent died, or is through without that.
func (l *life) wait(s *supervisor) (died bool) {
	for {
		select {
		case <-s.died:
			died, _ = s.result()
			return died
		case <-time.After(50 * time.Millisecond):
			if own := l.node.Own(); own.Status.Generation == own.Spec.Generation {
				return false
			}
		}
	}
}

// usable checks the node without an agent.
func (l *life) usable(t *testing.T) {
	t.Helper()
	l.restarter.settle()
	l.node.Containerd.Ready(t)
	if err := l.node.Pull(l.a.Base() + "/app:v1"); err != nil {
		t.Errorf("without the agent: %v", err)
	}
	if dump, err := l.node.Containerd.Dump(t.Context()); err != nil {
		t.Errorf("containerd would not start: %v: %s", err, dump)
	}
	l.undisturbed(t, "without the agent", 0)
}

// finished checks the node after another agent did the rest.
func (l *life) finished(t *testing.T, files []string) {
	t.Helper()
	if err := l.node.Pull(layout.Fixed().Reference("app:v1")); err != nil {
		t.Error(err)
	}
	l.undisturbed(t, "at the end", 1)
	if got := l.files(t); !slices.Equal(got, files) {
		t.Errorf("files %v, want %v", got, files)
	}
}

// undisturbed checks that the pod ran all the time. An agent that died after
// the restart and before it could write so down may restart once more.
func (l *life) undisturbed(t *testing.T, when string, least int) {
	t.Helper()
	if got := l.node.Containerd.Running(); !slices.Equal(got, l.running) {
		t.Errorf("%s: running %v, were %v", when, got, l.running)
	}
	if got := l.node.Containerd.Starts() - 1; got < least || got > 2 {
		t.Errorf("%s: containerd was restarted %d times", when, got)
	}
}

var port = regexp.MustCompile(`127\.0\.0\.1:[0-9]+`)

// files are the names of the files on the node and in the agent's folder.
func (l *life) files(t *testing.T) []string {
	t.Helper()
	var out []string
	for name := range (&cell{containerd: l.node.Containerd}).files(t) {
		if !ofContainerd(name) {
			out = append(out, port.ReplaceAllString(name, "HOST"))
		}
	}
	state, err := filepath.Glob(filepath.Join(l.node.Config.StateDir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range state {
		out = append(out, "state: "+filepath.Base(name))
	}
	slices.Sort(out)
	return out
}
