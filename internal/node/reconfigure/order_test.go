package reconfigure_test

import (
	"context"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/d8-registry/registry/internal/node/durable"
	"github.com/d8-registry/registry/internal/node/durable/durabletest"
	"github.com/d8-registry/registry/internal/node/reconfigure"
)

// upgraded is a containerd that is replaced by another version while a change that was
// approved begins.
type upgraded struct{ *node }

// Containers implements reconfigure.Runtime.
func (u upgraded) Containers(ctx context.Context) ([]string, error) {
	u.imported = "disabled_plugins = ['new']\n"
	return u.node.Containers(ctx)
}

// What was approved is one change of one configuration.
func TestAnotherConfigurationNeedsAnotherApproval(t *testing.T) {
	t.Parallel()
	n := newNode(t, original)
	waiting := n.pass(n.want(), "")
	r := reconfigure.New(reconfigure.Options{
		Log: quiet(), State: n.state, Runtime: upgraded{n}, Service: n, Limits: quick(), Prove: n.prove,
	})
	s, err := r.Pass(t.Context(), n.want(), waiting.ID)
	if err != nil || s.Phase != reconfigure.Waiting || s.ID == waiting.ID {
		t.Errorf("%+v, %v; was approved as %s", s, err, waiting.ID)
	}
	if n.restarts != 0 || n.read() != original {
		t.Errorf("%d restarts; the file is\n%s", n.restarts, n.read())
	}
	n.whole()
}

// A containerd that crashes and is started again answers in between, and even pulls.
func TestAContainerdThatDoesNotStay(t *testing.T) {
	t.Parallel()
	n := newNode(t, original)
	waiting := n.pass(n.want(), "")
	n.proves = func(string) error { return n.start() } // it crashed, and systemd was there
	s := n.pass(n.want(), waiting.ID)
	if s.Phase != reconfigure.Failed || s.Committed || !strings.Contains(s.Message, "came up and did not stay") {
		t.Errorf("%+v", s)
	}
	if n.read() != original {
		t.Errorf("the file is\n%s", n.read())
	}
	n.whole()
}

// The journal says that the main file was written, or put back, when that is on disk:
// after a power cut the next agent believes it. Whoever was killed between the two
// leaves it to the next one.
func TestTheMainFileIsOnDiskBeforeTheJournalGoesOn(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		bad  func(string) error
		want int
	}{"written": {nil, 1}, "written and put back": {broken, 2}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			kills := 0
			for at := 1; ; at++ {
				n := newNode(t, original)
				n.bad = c.bad
				id := n.pass(n.want(), "").ID
				p := durabletest.NewProcess(at, durabletest.After)
				n.mortalPass(p, n.want(), id)
				if !p.Dead() {
					n.inOrder(t, p.Steps())
					break
				}
				if p.Steps()[at-1] != "rename "+n.file() {
					continue
				}
				kills++
				next := &durabletest.FS{FS: durable.Disk{}}
				if _, err := n.agent(next).Pass(t.Context(), n.want(), id); err != nil {
					t.Fatal(err)
				}
				steps := []string{"rename " + n.file()}
				for _, change := range next.Changes {
					steps = append(steps, change.String())
				}
				n.inOrder(t, steps)
			}
			if kills != c.want {
				t.Errorf("killed %d times after the main file was renamed", kills)
			}
		})
	}
}

// inOrder checks that after each rename of the main file the folder is flushed before
// the journal is written.
func (n *node) inOrder(t *testing.T, steps []string) {
	t.Helper()
	for i, step := range steps {
		if step != "rename "+n.file() {
			continue
		}
		flushed := slices.Index(steps[i:], "sync "+filepath.Dir(n.file()))
		noted := slices.Index(steps[i:], "rename "+filepath.Join(n.state, "reconfigure.json"))
		if flushed < 0 || noted >= 0 && noted < flushed {
			t.Errorf("after step %d the journal goes on before the main file is on disk: %q", i, steps[i:])
		}
	}
}
