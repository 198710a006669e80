package reconfigure_test

import (
	"context"
	"fmt"
	"strings"
	"syscall"
	"testing"

	"github.com/d8-registry/registry/internal/node/durable"
	"github.com/d8-registry/registry/internal/node/durable/durabletest"
	"github.com/d8-registry/registry/internal/node/reconfigure"
)

// mortal is the node as one process of the agent sees it.
type mortal struct {
	*node
	p *durabletest.Process
}

// Restart implements reconfigure.Service.
func (m mortal) Restart(ctx context.Context) error {
	return m.p.Do("restart", func() error { return m.node.Restart(ctx) })
}

// Answers implements reconfigure.Runtime.
func (m mortal) Answers(ctx context.Context) error {
	return m.p.Do("answers", func() error { return m.node.Answers(ctx) })
}

// Instance implements reconfigure.Runtime.
func (m mortal) Instance(ctx context.Context) (string, error) {
	s := ""
	err := m.p.Do("instance", func() (err error) { s, err = m.node.Instance(ctx); return err })
	return s, err
}

// DumpConfig implements reconfigure.Runtime.
func (m mortal) DumpConfig(ctx context.Context, file string) ([]byte, error) {
	var s []byte
	err := m.p.Do("dump", func() (err error) { s, err = m.node.DumpConfig(ctx, file); return err })
	return s, err
}

// Lost implements reconfigure.Runtime.
func (m mortal) Lost(ctx context.Context, before []string) ([]string, error) {
	var s []string
	err := m.p.Do("lost", func() (err error) { s, err = m.node.Lost(ctx, before); return err })
	return s, err
}

// mortalPass is one pass of a process that may die in it. A dead process does
// nothing with its errors; its context ends with it.
func (n *node) mortalPass(p *durabletest.Process, w reconfigure.Want, approved string) {
	n.t.Helper()
	ctx, cancel := context.WithCancel(n.t.Context())
	defer cancel()
	m := mortal{n, p}
	o := reconfigure.Options{
		Log: quiet(), State: n.state, Runtime: m, Service: m, FS: p.FS(durable.Disk{}), Limits: quick(),
		Prove: func(ctx context.Context, path string) error {
			return m.p.Do("prove", func() error { return n.prove(ctx, path) })
		},
	}
	_, _ = reconfigure.New(o).Pass(ctx, w, approved)
}

// Wherever the agent dies, the next one goes on or undoes, and restarts
// containerd no second time without need.
func TestDeathAtEveryEvent(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		main   string
		legacy bool
		bad    bool
	}{
		{"there", original, false, false},
		{"there, from no file", "", false, false},
		{"there, and it fails", original, false, true},
		{"there from no file, and it fails", "", false, true},
		{"back", original, true, false},
		{"back to no file", "", true, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			for _, kill := range durabletest.Kills() {
				for at := 1; ; at++ {
					n := newNode(t, c.main)
					w := n.want()
					if c.legacy {
						n.approve(w)
						n.restarts, n.cuts, w = 0, 0, n.back()
					}
					start := n.read()
					if c.bad {
						n.bad = broken
					}
					id := n.pass(w, "").ID
					p := durabletest.NewProcess(at, kill)
					n.mortalPass(p, w, id)
					if !p.Dead() {
						if at < 20 {
							t.Fatalf("only %d events", at)
						}
						break
					}
					n.afterDeath(w, id, start, c.bad, c.legacy, fmt.Sprintf("%s event %d, %s", kill, at, p.Steps()[at-1]))
					if t.Failed() {
						return
					}
				}
			}
		})
	}
}

// afterDeath lets the next agent go on, and looks at what came of it.
func (n *node) afterDeath(w reconfigure.Want, id, start string, bad, legacy bool, where string) {
	n.t.Helper()
	var s reconfigure.Status
	for range 3 {
		s = n.pass(w, id)
	}
	n.whole()
	main := strings.Contains(n.read(), hosts)
	switch {
	case bad:
		if s.Phase != reconfigure.Failed || n.read() != start {
			n.t.Errorf("%+v; the file is\n%s", s, n.read())
		}
	case s.Phase != reconfigure.None || main == legacy:
		n.t.Errorf("%+v; the file is\n%s", s, n.read())
	}
	// One that is dead already may be restarted as often as it takes.
	if n.cuts > 1 || n.restarts > 3 {
		n.t.Errorf("%d restarts, %d of them of a containerd that lived", n.restarts, n.cuts)
	}
	if n.t.Failed() {
		n.t.Errorf("death %s", where)
	}
}

// A file operation that fails once ends in one of the two states, never in
// between, and says so.
func TestErrorAtEveryOperation(t *testing.T) {
	t.Parallel()
	for _, bad := range []bool{false, true} {
		for at := 1; ; at++ {
			n := newNode(t, original)
			id := n.pass(n.want(), "").ID
			if bad {
				n.bad = broken
			}
			ops := 0
			f := &durabletest.FS{FS: durable.Disk{}, Before: func(durabletest.Change) durabletest.Fault {
				if ops++; ops == at {
					return durabletest.Fault{Err: syscall.EIO}
				}
				return durabletest.Fault{}
			}}
			_, err := n.agent(f).Pass(t.Context(), n.want(), id)
			if ops < at {
				break
			}
			s := reconfigure.Status{}
			for range 3 {
				s = n.pass(n.want(), id)
			}
			n.whole()
			if done := strings.Contains(n.read(), hosts); done && (bad || s.Phase != reconfigure.None) || !done && n.read() != original {
				t.Errorf("%+v after %v; the file is\n%s", s, err, n.read())
			}
			if n.restarts > 2 {
				t.Errorf("%d restarts", n.restarts)
			}
			if t.Failed() {
				t.Fatalf("operation %d", at)
			}
		}
	}
}

// A disk that takes nothing any more still lets the file go back.
func TestFullDiskDuringUndo(t *testing.T) {
	t.Parallel()
	n := newNode(t, original)
	id := n.pass(n.want(), "").ID
	n.bad = broken
	f := &durabletest.FS{FS: durable.Disk{}, Before: func(c durabletest.Change) durabletest.Fault {
		if c.Op == durabletest.Write && n.restarts > 0 {
			return durabletest.Fault{Err: syscall.ENOSPC}
		}
		return durabletest.Fault{}
	}}
	if _, err := n.agent(f).Pass(t.Context(), n.want(), id); err == nil {
		t.Fatal("nobody heard of the full disk")
	}
	if n.read() != original || n.run == 0 || n.restarts != 2 {
		t.Fatalf("%d restarts; the file is\n%s", n.restarts, n.read())
	}
	if s := n.pass(n.want(), id); s.Phase != reconfigure.Failed || n.restarts > 3 {
		t.Fatalf("%+v after %d restarts", s, n.restarts)
	}
	n.whole()
}

// The node restarts in the middle: other containers, another boot.
func TestReboot(t *testing.T) {
	t.Parallel()
	for at := 1; at < 40; at++ {
		n := newNode(t, original)
		id := n.pass(n.want(), "").ID
		n.mortalPass(durabletest.NewProcess(at, durabletest.After), n.want(), id)
		n.boot++
		n.containers = map[string]bool{"c": true}
		if err := n.start(); err != nil {
			t.Fatal(err)
		}
		before := n.restarts
		s := reconfigure.Status{}
		for range 3 {
			if s = n.pass(n.want(), id); s.Phase == reconfigure.Waiting {
				id = s.ID // nothing had begun, and the approval was for the run of before
			}
		}
		n.whole()
		if s.Phase != reconfigure.None || !strings.Contains(n.read(), hosts) || n.restarts > before+1 {
			t.Fatalf("event %d: %+v after %d restarts", at, s, n.restarts)
		}
		if written := strings.Contains(n.loaded, hosts); written && n.restarts > before+1 {
			t.Fatalf("event %d: a restart that the reboot had made needless", at)
		}
	}
}

// A file that cannot be replaced costs no restart and is told in words.
func TestUnwritable(t *testing.T) {
	t.Parallel()
	for errno, says := range map[error]string{
		syscall.EBUSY:  "is a mount of its own",
		syscall.EROFS:  "read-only file system",
		syscall.EPERM:  "may not be written by this agent",
		syscall.ENOSPC: "no space is left",
	} {
		n := newNode(t, original)
		id := n.pass(n.want(), "").ID
		f := &durabletest.FS{FS: durable.Disk{}, Before: func(c durabletest.Change) durabletest.Fault {
			if c.Op == durabletest.Rename && c.Name == n.file() {
				return durabletest.Fault{Err: errno}
			}
			return durabletest.Fault{}
		}}
		s, err := n.agent(f).Pass(t.Context(), n.want(), id)
		if err != nil || s.Phase != reconfigure.Failed || !strings.Contains(s.Message, says) {
			t.Fatalf("%+v, %v", s, err)
		}
		n.whole()
		if n.restarts != 0 || n.read() != original || len(n.beside()) != 0 {
			t.Fatalf("%d restarts; beside %v; the file is\n%s", n.restarts, n.beside(), n.read())
		}
	}
	n := newNode(t, original)
	if _, err := n.agent(locked{durable.Disk{}}).Pass(t.Context(), n.want(), ""); err == nil || !strings.Contains(err.Error(), "read-only file system") {
		t.Fatal(err)
	}
}

// locked is a read-only file system, which tells so when it is asked.
type locked struct{ durable.Disk }

// Writable implements durable.FS.
func (locked) Writable(string) error { return syscall.EROFS }
