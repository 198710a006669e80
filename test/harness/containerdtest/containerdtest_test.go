package containerdtest_test

import (
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/d8-registry/registry/test/harness/containerdtest"
)

func TestMain(m *testing.M) { os.Exit(containerdtest.Isolate(m.Run)) }

func TestVersionsArePackagedAsNodesHaveThem(t *testing.T) {
	t.Parallel()
	want := map[containerdtest.Version]string{containerdtest.V16: "1.6.", containerdtest.V17: "v1.7.", containerdtest.V2: "v2."}
	for _, v := range containerdtest.Versions() {
		t.Run(string(v), func(t *testing.T) {
			t.Parallel()
			c := containerdtest.NewVersion(t, v)
			name, version, err := c.Start(t).Version(t.Context())
			if err != nil || name != "containerd" || !strings.HasPrefix(version, want[v]) {
				t.Errorf("%s %s %v", name, version, err)
			}
		})
	}
}

// The whole point of a restart: who runs goes on running.
func TestContainersLiveThroughRestarts(t *testing.T) {
	t.Parallel()
	for _, v := range containerdtest.Versions() {
		t.Run(string(v), func(t *testing.T) {
			t.Parallel()
			c := containerdtest.NewVersion(t, v)
			c.Start(t)
			id := c.RunPod(t)
			before := c.Running()
			if len(before) != 2 || !slices.ContainsFunc(before, func(s string) bool { return strings.HasPrefix(s, id+" ") }) {
				t.Fatalf("running: %v, want a sandbox and %s", before, id)
			}
			c.Restart(t)
			if after := c.Running(); !slices.Equal(before, after) {
				t.Errorf("running: %v, before the restart %v", after, before)
			}
			c.Kill(t)
			if after := c.Running(); !slices.Equal(before, after) {
				t.Errorf("without containerd running: %v, before %v", after, before)
			}
			c.Start(t)
			if n := c.Starts(); n != 3 {
				t.Errorf("%d starts, want 3", n)
			}
			if second := c.RunPod(t); second == id || len(c.Running()) != 4 {
				t.Errorf("second container %s, running %v", second, c.Running())
			}
			if out, err := c.Ctr(t, "tasks", "kill", "--signal", "SIGKILL", id); err != nil {
				t.Fatal(err, out)
			}
			for len(c.Running()) != 3 {
				<-time.After(10 * time.Millisecond)
			}
			c.Stop()
			if after := c.Running(); len(after) != 0 {
				t.Errorf("outlived the power cut: %v", after)
			}
		})
	}
}

func TestRestartOfABrokenConfiguration(t *testing.T) {
	t.Parallel()
	for _, v := range containerdtest.Versions() {
		t.Run(string(v), func(t *testing.T) {
			t.Parallel()
			c := containerdtest.NewVersion(t, v)
			c.Start(t)
			c.Main(t, c.Base()+"[broken\n")
			if err := c.RestartService(t.Context()); err == nil || !strings.Contains(err.Error(), "ended at once") {
				t.Fatalf("restarted with a broken file: %v", err)
			}
			c.Configure(t, "")
			c.Restart(t)
			if n := c.Starts(); n != 3 {
				t.Errorf("%d starts, want 3", n)
			}
		})
	}
}
