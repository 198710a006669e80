package reconfigure_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/d8-registry/registry/internal/node/durable"
	"github.com/d8-registry/registry/internal/node/durable/durabletest"
	"github.com/d8-registry/registry/internal/node/reconfigure"
)

// An agent that is stopped while its change keeps containerd from starting
// undoes it first: there would be no containerd to start the next agent.
func TestStoppedWhileContainerdIsDead(t *testing.T) {
	t.Parallel()
	n := newNode(t, original)
	waiting := n.pass(n.want(), "")
	ctx, cancel := context.WithCancel(t.Context())
	n.onRestart = cancel
	n.bad = broken
	s, err := n.agent(nil).Pass(ctx, n.want(), waiting.ID)
	if err != nil || s.Phase != reconfigure.Failed || n.read() != original {
		t.Fatalf("%+v, %v", s, err)
	}
	n.whole()
}

// An approval is for one restart, also if the very same bytes come back.
func TestApprovalIsUsedOnce(t *testing.T) {
	t.Parallel()
	n := newNode(t, original)
	waiting := n.pass(n.want(), "")
	if s := n.pass(n.want(), waiting.ID); !s.Committed {
		t.Fatalf("%+v", s)
	}
	n.write(original)
	again := n.pass(n.want(), waiting.ID)
	if again.Phase != reconfigure.Waiting || again.ID == waiting.ID || n.restarts != 1 {
		t.Fatalf("%+v after %d restarts", again, n.restarts)
	}
	if s := n.pass(n.want(), again.ID); !s.Committed {
		t.Fatalf("%+v", s)
	}
}

// A disk that was full, or a containerd that was away, when a change was tried
// out does not make it impossible for ever.
func TestRefusalIsAskedForAgain(t *testing.T) {
	t.Parallel()
	n := newNode(t, original)
	n.rejects = func(file string) bool { return strings.Contains(file, hosts) }
	limits := quick()
	limits.Recheck = time.Nanosecond
	agent := reconfigure.New(reconfigure.Options{Log: quiet(), State: n.state, Runtime: n, Service: n, Prove: n.prove, Limits: limits})
	var refusal *reconfigure.Refusal
	if _, err := agent.Pass(t.Context(), n.want(), ""); !errors.As(err, &refusal) {
		t.Fatal(err)
	}
	n.rejects = nil
	if s, err := agent.Pass(t.Context(), n.want(), ""); err != nil || s.Phase != reconfigure.Waiting {
		t.Fatalf("%+v, %v", s, err)
	}
}

// What a change failed with is no explanation of a containerd that dies later.
func TestOldFailureIsNotToldAgain(t *testing.T) {
	t.Parallel()
	n := newNode(t, original)
	n.bad = broken
	if s := n.approve(n.want()); s.Phase != reconfigure.Failed {
		t.Fatalf("%+v", s)
	}
	n.run = 0
	idle := n.want()
	idle.Path = ""
	if s := n.pass(idle, ""); s != (reconfigure.Status{}) {
		t.Fatalf("%+v", s)
	}
}

// Where the agent died right after the rename and somebody edited the file
// since, our edit is still found on the way back.
func TestEditedAfterDeath(t *testing.T) {
	t.Parallel()
	n := newNode(t, original)
	waiting := n.pass(n.want(), "")
	k := &durabletest.FS{FS: durable.Disk{}, Before: func(c durabletest.Change) durabletest.Fault {
		if c.Op == durabletest.Write && strings.HasSuffix(c.Name, "reconfigure.json.registry-agent-new") && n.read() != original {
			panic("dead")
		}
		return durabletest.Fault{}
	}}
	func() {
		defer func() { _ = recover() }()
		_, _ = n.agent(k).Pass(t.Context(), n.want(), waiting.ID)
	}()
	if n.read() == original || n.restarts != 0 {
		t.Fatalf("after %d restarts:\n%s", n.restarts, n.read())
	}
	n.write(n.read() + "# mine\n")
	if s := n.pass(n.want(), ""); s != (reconfigure.Status{}) {
		t.Fatalf("%+v", s)
	}
	if edited, err := n.agent(nil).Edited(n.want()); err != nil || !edited {
		t.Fatal("our edit is not known any more", err)
	}
	if s := n.approve(n.back()); !s.Committed || n.read() != original+"# mine\n" {
		t.Fatalf("%+v\n%s", s, n.read())
	}
}

// An API server that does not answer keeps no node from its undo.
func TestReportHasALimit(t *testing.T) {
	t.Parallel()
	n := newNode(t, original)
	n.bad = broken
	limits := quick()
	limits.Ask = 20 * time.Millisecond
	agent := reconfigure.New(reconfigure.Options{
		Log: quiet(), State: n.state, Runtime: n, Service: n, Prove: n.prove, Limits: limits,
		Report: func(ctx context.Context, _ reconfigure.Status) { <-ctx.Done() },
	})
	waiting, err := agent.Pass(t.Context(), n.want(), "")
	if err != nil {
		t.Fatal(err)
	}
	if s, err := agent.Pass(t.Context(), n.want(), waiting.ID); err != nil || s.Phase != reconfigure.Failed {
		t.Fatalf("%+v, %v", s, err)
	}
	n.whole()
}
