package nodescript

import (
	"context"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	registryv1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
)

// stage is a runner whose scripts are played and whose clock is the test's.
type stage struct {
	*Runner
	t       *testing.T
	actor   *actor
	told    *listener
	changed atomic.Int64
	stop    func()
}

// onStage runs a test in a bubble with a runner on some folder.
func onStage(t *testing.T, test func(st *stage)) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "scripts")
	synctest.Test(t, func(t *testing.T) {
		st := &stage{t: t, actor: &actor{}, told: &listener{}}
		st.begin(dir, "boot-1")
		test(st)
		st.stop()
	})
}

// begin starts an agent on the folder that an earlier one may have left.
func (st *stage) begin(dir, bootID string) {
	st.t.Helper()
	r, err := New(Config{NodeName: "node", BootID: bootID, StateDir: dir, Changed: func() { st.changed.Add(1) }}, quiet())
	if err != nil {
		st.t.Fatal(err)
	}
	if r.folder, err = openStateDir(r.cfg.Host, dir); err != nil {
		st.t.Fatal(err)
	}
	r.bash, r.notify = st.actor, st.told
	st.Runner = r
	ctx, cancel := context.WithCancel(st.t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); r.loop(ctx) }()
	st.stop = func() { cancel(); <-ended; _ = r.folder.close() }
}

// again is a restart of the agent: after a crash, or with another boot.
func (st *stage) again(bootID string) {
	scripts, node := st.scripts, *st.node
	st.stop()
	st.begin(st.cfg.StateDir, bootID)
	st.Learn(node)
	st.learnScripts(scripts)
	synctest.Wait()
}

func (st *stage) expect(what, want string) {
	st.t.Helper()
	synctest.Wait()
	if got := st.actor.took(); got != want {
		st.t.Errorf("%s: ran %q, want %q", what, got, want)
	}
}

func (st *stage) phases() string {
	synctest.Wait()
	scripts, known := st.Status()
	if !known {
		return "unknown"
	}
	var all []string
	for _, s := range scripts {
		all = append(all, s.Name+" "+s.Phase)
	}
	return strings.Join(all, ", ")
}

func failing(name string) func(context.Context, script, bool) outcome {
	return func(_ context.Context, s script, _ bool) outcome {
		if s.name == name {
			return outcome{failure: "exit status 1", stderr: "boom"}
		}
		return outcome{}
	}
}

func TestWhenScriptsRun(t *testing.T) {
	t.Parallel()
	onStage(t, func(st *stage) {
		a, b := script100("a", "1"), script100("b", "1")
		st.learnScripts([]script{b, a})
		st.expect("the node is not known", "")
		if got := st.phases(); got != "unknown" {
			t.Errorf("status %q", got)
		}
		st.Learn(Node{Group: "worker"})
		st.expect("at first", "a, b")
		if got := st.phases(); got != "a Done, b Done" {
			t.Errorf("status %q", got)
		}
		before := st.changed.Load()
		for range 3 {
			st.Learn(Node{Group: "worker"})
			st.learnScripts([]script{a, b})
			st.expect("nothing changed", "")
		}
		if st.changed.Load() != before {
			t.Error("told of no change")
		}
		b.content = "2"
		st.learnScripts([]script{a, b})
		st.expect("one changed", "a, b")
		st.learnScripts([]script{b})
		st.expect("one was deleted", "b")
		st.learnScripts(nil)
		st.expect("all were deleted", "")
		if got := st.phases(); got != "" {
			t.Errorf("status %q", got)
		}
		st.learnScripts([]script{b})
		st.expect("the same came back", "b")
		only := script100("only", "1")
		only.groups = []string{"master"}
		st.learnScripts([]script{b, only})
		st.expect("one for others", "")
		st.Learn(Node{Group: "master"})
		st.expect("another group", "b, only")
	})
}

func TestWhenScriptsRunAgain(t *testing.T) {
	t.Parallel()
	onStage(t, func(st *stage) {
		st.learnScripts([]script{script100("a", "1"), script100("b", "1")})
		st.Learn(Node{})
		st.expect("at first", "a, b")
		time.Sleep(4*time.Hour - time.Minute) //nolint:forbidigo // the bubble's clock
		st.expect("before four hours", "")
		st.again("boot-1")
		st.expect("the agent was restarted", "")
		if got := st.phases(); got != "a Done, b Done" {
			t.Errorf("after a restart: %q", got)
		}
		time.Sleep(2 * time.Minute) //nolint:forbidigo // the bubble's clock
		st.expect("after four hours", "a, b")
		time.Sleep(4 * time.Hour) //nolint:forbidigo // the bubble's clock
		st.expect("after four more", "a, b")
		st.again("boot-2")
		st.expect("after a reboot", "a, b")
		if err := st.folder.complete(done{Checksum: st.folder.last().Checksum, BootID: "boot-2", At: time.Now().Add(time.Hour)}); err != nil {
			t.Fatal(err)
		}
		st.nudge()
		st.expect("the clock was set back", "a, b")
		if err := st.folder.write(doneFile, []byte("{broken"), 0o600); err != nil {
			t.Fatal(err)
		}
		st.again("boot-2")
		st.expect("it is not known what was done", "a, b")
	})
}

func TestFailingScript(t *testing.T) {
	t.Parallel()
	onStage(t, func(st *stage) {
		st.actor.plays(failing("b"))
		st.learnScripts([]script{script100("a", "1"), script100("b", "1"), script100("c", "1")})
		st.Learn(Node{})
		st.expect("at once", "a, b")
		if got := st.phases(); got != "a Done, b Failed, c Pending" {
			t.Errorf("status %q", got)
		}
		scripts, _ := st.Status()
		if scripts[1].Message != "exit status 1" || strings.Contains(scripts[1].Message, "boom") {
			t.Errorf("message %q", scripts[1].Message)
		}
		time.Sleep(9 * time.Second) //nolint:forbidigo // the bubble's clock
		st.expect("before ten seconds", "")
		before := st.changed.Load()
		time.Sleep(2 * time.Second) //nolint:forbidigo // the bubble's clock
		st.expect("after ten seconds", "b")
		time.Sleep(20 * time.Second) //nolint:forbidigo // the bubble's clock
		st.expect("from the third failure with a trace", "b, b traced")
		time.Sleep(5 * time.Hour) //nolint:forbidigo // the bubble's clock
		if got := strings.Count(st.actor.took(), "b traced"); got != 5*360 {
			t.Errorf("tried %d times in five hours", got)
		}
		if st.changed.Load() != before {
			t.Error("the same failure is told again and again")
		}
		st.actor.plays(nil)
		time.Sleep(11 * time.Second) //nolint:forbidigo // the bubble's clock
		st.expect("it succeeds", "b traced, c")
		if got := st.phases(); got != "a Done, b Done, c Done" {
			t.Errorf("status %q", got)
		}
		if got := st.told.heard(); len(got) != 4+1800 || got[0] != "NodeGroupConfiguration b: exit status 1\nboom" {
			t.Errorf("told %d times: %q", len(got), got[0])
		}
	})
}

func TestChangeWhileFailing(t *testing.T) {
	t.Parallel()
	onStage(t, func(st *stage) {
		st.actor.plays(failing("b"))
		a, b := script100("a", "1"), script100("b", "1")
		st.learnScripts([]script{a, b})
		st.Learn(Node{})
		st.expect("at once", "a, b")
		b.generation = 2
		st.learnScripts([]script{a, b})
		st.expect("nothing that matters changed", "")
		if scripts, _ := st.Status(); scripts[1].Generation != 2 || scripts[1].Phase != registryv1alpha1.ScriptFailed {
			t.Errorf("status %v", scripts)
		}
		b.content = "2"
		st.learnScripts([]script{a, b})
		st.expect("it was changed", "a, b")
		st.learnScripts([]script{a})
		st.expect("it was deleted", "a")
		if got := st.phases(); got != "a Done" {
			t.Errorf("status %q", got)
		}
	})
}

func TestChangeWhileRunning(t *testing.T) {
	t.Parallel()
	onStage(t, func(st *stage) {
		slow := func(ctx context.Context, s script, _ bool) outcome {
			if s.name != "a" {
				return outcome{}
			}
			select {
			case <-time.After(time.Minute):
				return outcome{}
			case <-ctx.Done():
				return outcome{failure: "killed"}
			}
		}
		st.actor.plays(slow)
		a, b := script100("a", "1"), script100("b", "1")
		st.learnScripts([]script{a, b})
		st.Learn(Node{})
		time.Sleep(500 * time.Millisecond) //nolint:forbidigo // the bubble's clock
		if got := st.phases(); got != "a Pending, b Pending" {
			t.Errorf("status %q", got)
		}
		time.Sleep(time.Second) //nolint:forbidigo // the bubble's clock
		if got := st.phases(); got != "a Running, b Pending" {
			t.Errorf("status %q", got)
		}
		b.content = "2"
		st.learnScripts([]script{a, b})
		st.expect("one is not stopped for another", "a")
		time.Sleep(time.Minute) //nolint:forbidigo // the bubble's clock
		st.expect("from the first again", "a")
		// A crash now: the whole of it once more.
		st.again("boot-1")
		st.expect("the agent ended meanwhile", "a")
		if heard := st.told.heard(); len(heard) != 0 {
			t.Errorf("what we ended ourselves was told: %q", heard)
		}
		time.Sleep(time.Minute) //nolint:forbidigo // the bubble's clock
		st.expect("and the rest", "b")
		time.Sleep(4 * time.Hour) //nolint:forbidigo // the bubble's clock
		if got := st.phases(); got != "a Done, b Done" {
			t.Errorf("once more for good measure: %q", got)
		}
	})
}

func TestSweep(t *testing.T) {
	t.Parallel()
	b := newBash(t)
	for _, s := range []script{script100("a", "true"), script100("b", "true")} {
		if o := b.run(t.Context(), s, false); o.failure != "" {
			t.Fatal(o.failure)
		}
	}
	b.folder.sweep(makePlan([]script{script100("b", "true")}, selector{}))
	left := slices.Concat(b.folder.list(stepsDir), b.folder.list(outputDir))
	if want := []string{"100_b", "100_b.log"}; !slices.Equal(left, want) {
		t.Errorf("left %v, want %v", left, want)
	}
}
