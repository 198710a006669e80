package reconfigure_test

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/d8-registry/registry/internal/node/durable/durabletest"
	"github.com/d8-registry/registry/internal/node/reconfigure"
)

// place is what the operator is to do instead, in these tests.
const place = "set it in /etc/writer/containerd.d/registry.toml"

func (n *node) regenerated() reconfigure.Want {
	w := n.want()
	w.Instead = place
	return w
}

// A program that makes the file at each start costs one restart, not two, and is
// not tried against again; also if its files differ from start to start.
func TestRewrittenAtStart(t *testing.T) {
	t.Parallel()
	for name, generated := range map[string]func(restart int) string{
		"the same bytes": func(int) string { return original },
		"with a date":    func(restart int) string { return fmt.Sprintf("# made at second %d\n%s", restart, original) },
		"no file at all": nil,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := newNode(t, original)
			if generated == nil {
				n.write("") // as good as none
				generated = func(int) string { return "" }
			}
			n.onRestart = func() { n.write(generated(n.restarts)) }
			s := n.approve(n.regenerated())
			for _, words := range []string{"/etc/containerd/config.toml was written anew when containerd was restarted", place} {
				if s.Phase != reconfigure.Failed || !strings.Contains(s.Message, words) {
					t.Fatalf("%+v, want %q", s, words)
				}
			}
			n.whole()
			if n.restarts != 1 || n.read() != generated(1) || len(n.beside()) != 0 {
				t.Fatalf("%d restarts; beside %v; the file is\n%s", n.restarts, n.beside(), n.read())
			}
			// Another start of containerd, and more passes, change nothing.
			n.write(generated(2))
			if err := n.start(); err != nil {
				t.Fatal(err)
			}
			for range 3 {
				if again := n.approve(n.regenerated()); again != s || n.restarts != 1 {
					t.Fatalf("%d restarts; %+v\nbecame\n%+v", n.restarts, s, again)
				}
			}
			// The operator changes what the file means, and the program is gone.
			n.onRestart = nil
			n.write(original + "[grpc]\nuid = 7\n")
			if s := n.approve(n.regenerated()); !s.Committed || n.restarts != 2 {
				t.Fatalf("%+v after %d restarts", s, n.restarts)
			}
		})
	}
}

// A program that puts the file back at once costs no restart.
func TestRewrittenAtOnce(t *testing.T) {
	t.Parallel()
	n := newNode(t, original)
	n.interrupted = func() error {
		if strings.Contains(n.read(), hosts) {
			n.write(original)
		}
		return nil
	}
	s := n.approve(n.regenerated())
	if s.Phase != reconfigure.Failed || !strings.Contains(s.Message, "containerd was not restarted") || !strings.Contains(s.Message, place) {
		t.Fatalf("%+v", s)
	}
	n.whole()
	if again := n.approve(n.regenerated()); again != s || n.restarts != 0 {
		t.Fatalf("%d restarts; %+v\nbecame\n%+v", n.restarts, s, again)
	}
}

// Where another program takes the edit out later, containerd is restarted once
// more in a boot, and then never; a program that makes the file at each boot
// costs one restart a boot.
func TestTakenOutLater(t *testing.T) {
	t.Parallel()
	n := newNode(t, original)
	for _, says := range []string{"becomes", "somebody took it out again"} {
		waiting := n.pass(n.regenerated(), "")
		if waiting.Phase != reconfigure.Waiting || !strings.Contains(waiting.Message, says) {
			t.Fatalf("%+v, want %q", waiting, says)
		}
		if s := n.pass(n.regenerated(), waiting.ID); !s.Committed {
			t.Fatalf("%+v", s)
		}
		n.write("# managed\n" + original)
	}
	var refusal *reconfigure.Refusal
	for range 3 {
		_, err := n.agent(nil).Pass(t.Context(), n.regenerated(), "")
		if !errors.As(err, &refusal) || !strings.Contains(err.Error(), "changed 2 times since this node started") || !strings.Contains(err.Error(), place) {
			t.Fatal(err)
		}
	}
	if n.restarts != 2 {
		t.Fatalf("%d restarts", n.restarts)
	}
	for boot := range 3 {
		n.boot++
		n.write(original)
		if s := n.approve(n.regenerated()); !s.Committed || n.restarts != 3+boot {
			t.Fatalf("boot %d: %+v after %d restarts", boot, s, n.restarts)
		}
	}
	if s := n.approve(n.back()); !s.Committed || n.read() != original {
		t.Fatalf("%+v\n%s", s, n.read())
	}
}

// Wherever the agent dies while a program makes the file at each start, there is
// at most one restart, and the next agent says why.
func TestDeathWhileItIsRewritten(t *testing.T) {
	t.Parallel()
	for _, kill := range durabletest.Kills() {
		for at := 1; ; at++ {
			n := newNode(t, original)
			n.onRestart = func() { n.write(original) }
			id := n.pass(n.regenerated(), "").ID
			p := durabletest.NewProcess(at, kill)
			n.mortalPass(p, n.regenerated(), id)
			if !p.Dead() {
				if at < 20 {
					t.Fatalf("only %d events", at)
				}
				break
			}
			s := reconfigure.Status{}
			for range 4 {
				s = n.approve(n.regenerated())
			}
			n.whole()
			if s.Phase != reconfigure.Failed || !strings.Contains(s.Message, "written anew") || n.restarts > 1 || n.read() != original {
				t.Fatalf("death %s event %d, %s: %+v after %d restarts", kill, at, p.Steps()[at-1], s, n.restarts)
			}
		}
	}
}

// A node that starts in the middle, and whose file is made at each boot, gets
// another try: the program leaves the file alone until the next boot.
func TestRebootMakesTheFileAnew(t *testing.T) {
	t.Parallel()
	for at := 1; at < 40; at++ {
		n := newNode(t, original)
		id := n.pass(n.regenerated(), "").ID
		n.mortalPass(durabletest.NewProcess(at, durabletest.After), n.regenerated(), id)
		n.boot++
		n.containers = map[string]bool{"c": true}
		n.write(original)
		if err := n.start(); err != nil {
			t.Fatal(err)
		}
		before := n.restarts
		var s reconfigure.Status
		for range 4 {
			if s, _ = n.agent(nil).Pass(t.Context(), n.regenerated(), id); s.Phase == reconfigure.Waiting {
				id = s.ID
			}
		}
		n.whole()
		if s.Phase != reconfigure.None || !strings.Contains(n.read(), hosts) || n.restarts != before+1 {
			t.Fatalf("event %d: %+v after %d restarts\n%s", at, s, n.restarts-before, n.read())
		}
	}
}

// The same with real containerds, whose unit makes the file before each start:
// one restart, and containers live on.
func TestRealRewritten(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, r *real) {
		r.Configure(t, "# of a template\n")
		main := r.read()
		r.Start(t)
		r.RunPod(t)
		running := r.Running()
		r.BeforeStart = func() error { return os.WriteFile(r.ConfigFile, []byte(main), 0o600) }
		s := r.approve(r.want())
		if s.Phase != reconfigure.Failed || !strings.Contains(s.Message, "was written anew when containerd was restarted") {
			t.Fatalf("%+v", s)
		}
		for range 2 {
			if again := r.pass(r.want(), s.ID); again != s {
				t.Fatalf("%+v\nbecame\n%+v", s, again)
			}
		}
		if r.Starts() != 2 || r.read() != main || !slices.Equal(running, r.Running()) {
			t.Fatalf("%d starts; %v ran and %v run; the file is\n%s", r.Starts(), running, r.Running(), r.read())
		}
		if err := r.host.Answers(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
}
