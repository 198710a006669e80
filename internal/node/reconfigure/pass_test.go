package reconfigure_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/d8-registry/registry/internal/node/durable"
	"github.com/d8-registry/registry/internal/node/durable/durabletest"
	"github.com/d8-registry/registry/internal/node/reconfigure"
)

func TestThereAndBack(t *testing.T) {
	t.Parallel()
	for _, main := range []string{
		original,
		"version = 2\r\n[plugins.'io.containerd.grpc.v1.cri'.registry]\r\nconfig_path = '/a:/b' # theirs\r\n",
		"", // none
	} {
		n := newNode(t, main)
		waiting := n.pass(n.want(), "")
		if waiting.Phase != reconfigure.Waiting || waiting.ID == "" || !strings.Contains(waiting.Message, hosts) {
			t.Fatalf("%+v", waiting)
		}
		if n.read() != main || n.restarts != 0 {
			t.Fatal("something was done before it was approved")
		}
		if s := n.pass(n.want(), "another"); s != waiting {
			t.Fatalf("%+v, want %+v", s, waiting)
		}
		if s := n.pass(n.want(), waiting.ID); s.Phase != reconfigure.None || !s.Committed {
			t.Fatalf("%+v", s)
		}
		n.whole()
		if n.restarts != 1 || !strings.Contains(n.read(), hosts) {
			t.Fatalf("%d restarts; the file is\n%s", n.restarts, n.read())
		}
		if len(n.reports) == 0 || n.reports[0].Phase != reconfigure.Running || n.reports[0].ID != waiting.ID {
			t.Fatalf("reports %+v", n.reports)
		}
		if s := n.pass(n.want(), waiting.ID); s != (reconfigure.Status{}) {
			t.Fatalf("a second time: %+v", s)
		}
		if edited, err := n.agent(nil).Edited(n.want()); err != nil || !edited {
			t.Fatal("our edit is not known", err)
		}

		if s := n.approve(n.back()); !s.Committed {
			t.Fatalf("the way back: %+v", s)
		}
		n.whole()
		if n.read() != main || n.restarts != 2 || len(n.beside()) != 0 {
			t.Fatalf("%d restarts; beside %v; the file is\n%s", n.restarts, n.beside(), n.read())
		}
		if edited, err := n.agent(nil).Edited(n.want()); err != nil || edited {
			t.Fatal("our edit is still known", err)
		}
		if s := n.pass(n.back(), ""); s != (reconfigure.Status{}) {
			t.Fatalf("back a second time: %+v", s)
		}
	}
}

func TestBackupAndMode(t *testing.T) {
	t.Parallel()
	n := newNode(t, original)
	if err := os.Chmod(n.file(), 0o604); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() == 0 {
		if err := os.Chown(n.file(), 7, 8); err != nil {
			t.Fatal(err)
		}
	}
	n.approve(n.want())
	data, err := os.ReadFile(n.file() + "." + backup)
	if err != nil || string(data) != original {
		t.Fatalf("backup %q, %v", data, err)
	}
	info, err := os.Stat(n.file() + "." + backup)
	if err != nil || info.Mode() != 0o600 {
		t.Fatalf("the backup's mode is %v, %v", info.Mode(), err)
	}
	if info, err = os.Stat(n.file()); err != nil || info.Mode() != 0o604 {
		t.Fatalf("the file's mode is %v, %v", info.Mode(), err)
	}
	if uid, gid := owner(t, info); os.Geteuid() == 0 && (uid != 7 || gid != 8) {
		t.Fatalf("the file's owner is %d:%d", uid, gid)
	}
}

// A change that breaks containerd goes back and is not tried again until
// something is repaired.
func TestFailures(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name     string
		spoil    func(n *node)
		says     string
		restarts int
	}{
		{"it does not start", func(n *node) { n.bad = broken }, "the job ended with: failed", 2},
		{"its CRI does not answer", func(n *node) { n.deaf = broken }, "CRI does not answer", 2},
		{"it does not follow", func(n *node) { n.proves = func(string) error { return errors.New("no request came") } }, "no request came", 2},
		{"containers die", func(n *node) { n.onRestart = func() { clear(n.containers) } }, "2 of 2 containers", 2},
		{"nothing was restarted", func(n *node) { n.lazy = true }, "same process", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			n := newNode(t, original)
			c.spoil(n)
			s := n.approve(n.want())
			if s.Phase != reconfigure.Failed || !strings.Contains(s.Message, c.says) || s.ID == "" {
				t.Fatalf("%+v", s)
			}
			n.whole()
			if n.read() != original || n.restarts != c.restarts || len(n.beside()) != 0 {
				t.Fatalf("%d restarts; beside %v; the file is\n%s", n.restarts, n.beside(), n.read())
			}
			if again := n.pass(n.want(), s.ID); again != s {
				t.Fatalf("%+v\nbecame\n%+v", s, again)
			}
			if n.restarts != c.restarts {
				t.Fatal("it was tried again")
			}
			n.write(n.read() + "# repaired\n")
			n.bad, n.deaf, n.proves, n.onRestart, n.lazy = nil, nil, nil, nil, false
			repaired := n.pass(n.want(), s.ID)
			if repaired.Phase != reconfigure.Waiting || repaired.ID == s.ID {
				t.Fatalf("repaired: %+v", repaired)
			}
			if s := n.approve(n.want()); !s.Committed {
				t.Fatalf("repaired and approved: %+v", s)
			}
		})
	}
}

// The way back fails like the way there: the edited file comes back.
func TestLegacyFails(t *testing.T) {
	t.Parallel()
	n := newNode(t, original)
	n.approve(n.want())
	edited := n.read()
	n.bad = func(file string) error {
		if file == original {
			return errors.New("the job ended with: failed")
		}
		return nil
	}
	if s := n.approve(n.back()); s.Phase != reconfigure.Failed {
		t.Fatalf("%+v", s)
	}
	n.whole()
	if n.read() != edited {
		t.Fatalf("the file is\n%s", n.read())
	}
	n.bad = nil
	n.write(edited + "# repaired\n")
	if s := n.approve(n.back()); !s.Committed || n.read() != original+"# repaired\n" {
		t.Fatalf("%+v\n%s", s, n.read())
	}
}

func TestDeadEvenWithTheBackup(t *testing.T) {
	t.Parallel()
	n := newNode(t, original)
	n.bad = func(string) error { return errors.New("the job ended with: failed") }
	s := n.approve(n.want())
	if s.Phase != reconfigure.Failed || !strings.Contains(s.Message, "THIS NODE NEEDS A HUMAN NOW") || n.read() != original {
		t.Fatalf("%+v", s)
	}
	idle := n.want()
	idle.Path = ""
	if again := n.pass(idle, ""); again != s {
		t.Fatalf("while containerd is dead nothing is wanted any more: %+v", again)
	}
	n.bad = nil
	if err := n.start(); err != nil {
		t.Fatal(err)
	}
	if again := n.pass(idle, ""); again != (reconfigure.Status{}) {
		t.Fatalf("it lives again: %+v", again)
	}
}

// What cannot even be proposed asks for no restart and touches nothing.
func TestRefusals(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, main string
		spoil      func(n *node)
		says       string
	}{
		{"not TOML", "version = 2\n]", nil, "/etc/containerd/config.toml: line 2"},
		{"inline", "version = 2\nplugins = { x = 1 }\n", nil, "inline table"},
		{"the unit kills containers", original, func(n *node) { n.refuse = errors.New("KillMode=control-group") }, "KillMode"},
		{"containerd does not take it", original, func(n *node) { n.rejects = func(f string) bool { return strings.Contains(f, hosts) } }, "does not take"},
		{"an import wins", original, func(n *node) { n.imported = "plugins.'io.containerd.grpc.v1.cri'.registry.config_path = '/theirs'" }, `says "/theirs"`},
		{"mirrors", original + "[plugins.'io.containerd.grpc.v1.cri'.registry.mirrors.'docker.io']\nendpoint = ['x']\n", nil, "registry.mirrors"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			n := newNode(t, c.main)
			if c.spoil != nil {
				c.spoil(n)
			}
			_, err := n.agent(nil).Pass(t.Context(), n.want(), "")
			if strings.HasPrefix(c.name, "not") && err != nil {
				// Even containerd's dump fails there; the edit says it first.
				t.Log(err)
			}
			var refusal *reconfigure.Refusal
			if !errors.As(err, &refusal) || !strings.Contains(err.Error(), c.says) {
				t.Fatalf("%v", err)
			}
			if n.read() != c.main || len(n.beside()) != 0 || n.restarts != 0 {
				t.Fatalf("beside %v; the file is\n%s", n.beside(), n.read())
			}
		})
	}
}

// Another program that writes the file meanwhile is never written over.
func TestForeignWriter(t *testing.T) {
	t.Parallel()
	const theirs = original + "# Ansible managed\n"
	n := newNode(t, original)
	waiting := n.pass(n.want(), "")
	fsys := &durabletest.FS{FS: durable.Disk{}, Before: func(c durabletest.Change) durabletest.Fault {
		if c.Op == durabletest.Write && strings.HasSuffix(c.Name, "config.toml.registry-agent-new") {
			n.write(theirs)
		}
		return durabletest.Fault{}
	}}
	_, err := n.agent(fsys).Pass(t.Context(), n.want(), waiting.ID)
	if err == nil || !strings.Contains(err.Error(), "another program") {
		t.Fatal(err)
	}
	if n.read() != theirs || n.restarts != 0 || len(n.beside()) != 0 {
		t.Fatalf("beside %v; the file is\n%s", n.beside(), n.read())
	}
	again := n.pass(n.want(), waiting.ID)
	if again.Phase != reconfigure.Waiting || again.ID == waiting.ID || !strings.Contains(again.Message, "another program manages it") {
		t.Fatalf("%+v", again)
	}
}

// Where the file was written again after us, a change that fails takes only
// our edit out.
func TestForeignWriterBeforeUndo(t *testing.T) {
	t.Parallel()
	n := newNode(t, original)
	n.deaf = func(file string) error {
		if strings.Contains(file, hosts) {
			n.write(strings.ReplaceAll(n.read(), "'pause'", "'theirs'"))
			return errors.New("no CRI")
		}
		return nil
	}
	if s := n.approve(n.want()); s.Phase != reconfigure.Failed {
		t.Fatalf("%+v", s)
	}
	n.whole()
	if want := strings.ReplaceAll(original, "'pause'", "'theirs'"); n.read() != want {
		t.Fatalf("the file is\n%s", n.read())
	}
}

// A file that others changed after our edit keeps their changes on the way
// back.
func TestBackAmongChanges(t *testing.T) {
	t.Parallel()
	n := newNode(t, original)
	n.approve(n.want())
	n.write(n.read() + "[grpc]\nuid = 7\n")
	if s := n.approve(n.back()); !s.Committed {
		t.Fatalf("%+v", s)
	}
	if n.read() != original+"[grpc]\nuid = 7\n" {
		t.Fatalf("the file is\n%s", n.read())
	}
}

// The state folder was lost: the backup still tells our edit from theirs.
func TestBackWithoutState(t *testing.T) {
	t.Parallel()
	n := newNode(t, original)
	n.approve(n.want())
	n.state = t.TempDir()
	if edited, err := n.agent(nil).Edited(n.want()); err != nil || !edited {
		t.Fatal(edited, err)
	}
	if s := n.approve(n.back()); !s.Committed || n.read() != original {
		t.Fatalf("%+v\n%s", s, n.read())
	}
	// A config_path of the user's own is none of ours.
	const theirs = "version = 2\n[plugins.'io.containerd.grpc.v1.cri'.registry]\nconfig_path = '/theirs'\n"
	n.write(theirs)
	if s := n.pass(n.back(), ""); s != (reconfigure.Status{}) || n.read() != theirs {
		t.Fatalf("%+v\n%s", s, n.read())
	}
}

func TestRestartOnly(t *testing.T) {
	t.Parallel()
	const theirs = "version = 2\n[plugins.'io.containerd.grpc.v1.cri'.registry]\nconfig_path = '" + hosts + "'\n"
	n := newNode(t, theirs)
	n.loaded = original
	if s := n.pass(n.want(), ""); s != (reconfigure.Status{}) {
		t.Fatalf("%+v", s)
	}
	w := n.want()
	w.Unread = true
	if s := n.approve(w); !s.Committed || n.restarts != 1 || n.read() != theirs || len(n.beside()) != 0 {
		t.Fatalf("%+v after %d restarts; beside %v", s, n.restarts, n.beside())
	}
	if edited, err := n.agent(nil).Edited(n.want()); err != nil || edited {
		t.Fatal("the user's own setting was taken for ours", err)
	}
	n.proves = func(string) error { return errors.New("no request came") }
	s := n.approve(w)
	if s.Phase != reconfigure.Failed || n.read() != theirs {
		t.Fatalf("%+v", s)
	}
	if again := n.pass(w, ""); again != s {
		t.Fatalf("%+v\nbecame\n%+v", s, again)
	}
}

func TestSymbolicLink(t *testing.T) {
	t.Parallel()
	n := newNode(t, "")
	if err := os.MkdirAll(filepath.Join(n.root, "opt/real"), 0o750); err != nil {
		t.Fatal(err)
	}
	target := filepath.Join(n.root, "opt/real/c.toml")
	if err := os.WriteFile(target, []byte(original), 0o600); err != nil {
		t.Fatal(err)
	}
	// Absolute: it leads to another place from our own root.
	if err := os.Symlink("/opt/real/c.toml", n.file()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat("/opt/real/c.toml"); err == nil {
		t.Skip("this machine has /opt/real/c.toml")
	}
	p := n.want()
	s, err := n.agent(nil).Pass(t.Context(), p, "")
	if err != nil || s.Phase != reconfigure.Waiting {
		t.Fatalf("%+v, %v", s, err)
	}
	n.proves = func(string) error { return nil }
	// The pretended containerd reads below our root, not through the link.
	s, err = n.agent(nil).Pass(t.Context(), p, s.ID)
	if err != nil || !s.Committed {
		t.Fatalf("%+v, %v", s, err)
	}
	data, err := os.ReadFile(target)
	if err != nil || !strings.Contains(string(data), hosts) {
		t.Fatalf("%s, %v", data, err)
	}
	if to, err := os.Readlink(n.file()); err != nil || to != "/opt/real/c.toml" {
		t.Fatal("the link is gone", err)
	}
}

func TestStoppedByItsContext(t *testing.T) {
	t.Parallel()
	n := newNode(t, original)
	waiting := n.pass(n.want(), "")
	ctx, cancel := context.WithCancel(t.Context())
	n.onRestart = cancel
	n.proves = func(string) error {
		if n.restarts == 1 && ctx.Err() != nil && n.onRestart != nil {
			return ctx.Err()
		}
		return nil
	}
	if _, err := n.agent(nil).Pass(ctx, n.want(), waiting.ID); err == nil {
		t.Fatal("it went on without a context")
	}
	if n.read() == original {
		t.Fatal("being stopped was taken for a failure")
	}
	n.onRestart = nil
	if s := n.pass(n.want(), ""); !s.Committed || n.restarts != 1 {
		t.Fatalf("%+v after %d restarts", s, n.restarts)
	}
	n.whole()
}
