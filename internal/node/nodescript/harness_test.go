package nodescript

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// script100 is a script for every node.
func script100(name, content string) script {
	return script{name: name, generation: 1, weight: 100, content: content, groups: []string{everything}, bundles: []string{everything}}
}

// newBash is the real bash, on this host, with a folder of its own.
func newBash(t *testing.T) *bash {
	t.Helper()
	return bashOn(t, Host{Root: "/"}, filepath.Join(t.TempDir(), "scripts"))
}

func bashOn(t *testing.T, host Host, dir string) *bash {
	t.Helper()
	f, err := openStateDir(host, dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.close() })
	return &bash{host: host, folder: f, bootID: "boot", timeout: time.Minute}
}

// runs runs a script that must succeed, and returns what it printed.
func (b *bash) runs(t *testing.T, content string) string {
	t.Helper()
	s := script100("test", content)
	if o := b.run(t.Context(), s, false); o.failure != "" {
		t.Fatalf("%s\n%s", o.failure, b.printed(t, s))
	}
	return b.printed(t, s)
}

// fails runs a script that must not succeed.
func (b *bash) fails(t *testing.T, content string) outcome {
	t.Helper()
	o := b.run(t.Context(), script100("test", content), false)
	if o.failure == "" {
		t.Fatalf("succeeded:\n%s", b.printed(t, script100("test", "")))
	}
	return o
}

func (b *bash) printed(t *testing.T, s script) string {
	t.Helper()
	data, err := b.folder.root.ReadFile(outputDir + "/" + s.file() + ".log")
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func writeFile(t *testing.T, path, content string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), mode); err != nil {
		t.Fatal(err)
	}
}

// otherHost is a host seen from a container: namespaces of its own, /etc of its
// own, and a first process that only its own /proc calls 1.
func otherHost(t *testing.T) (host Host, etc string) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root: namespaces")
	}
	etc = filepath.Join(t.TempDir(), "etc")
	if out, err := exec.CommandContext(t.Context(), "cp", "-a", "/etc", etc).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	// Not t.Context(): that ends before what is cleaned up at the end.
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	cmd := exec.CommandContext(ctx, "unshare", "--mount", "--uts", "--ipc", "--net", "--pid", "--fork", "--kill-child", "--mount-proc",
		"sh", "-c", `mount --bind "$0" /etc && mount -t tmpfs tmpfs /var/lib && hostname other && echo ready && exec sleep infinity`, etc)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cancel(); _ = cmd.Wait() })
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
		t.Skipf("no namespaces here: %q %v", line, err)
	}
	children := readFile(t, fmt.Sprintf("/proc/%d/task/%d/children", cmd.Process.Pid, cmd.Process.Pid))
	first, err := strconv.Atoi(strings.TrimSpace(children))
	if err != nil {
		t.Fatal(err)
	}
	return Host{Root: fmt.Sprintf("/proc/%d/root", first), PID: 1}, etc
}

// actor runs no script but plays what is told, and remembers.
type actor struct {
	mu   sync.Mutex
	ran  []string
	play func(ctx context.Context, s script, trace bool) outcome
}

func (a *actor) run(ctx context.Context, s script, trace bool) outcome {
	a.mu.Lock()
	line := s.name
	if trace {
		line += " traced"
	}
	a.ran = append(a.ran, line)
	play := a.play
	a.mu.Unlock()
	if play == nil {
		return outcome{}
	}
	return play(ctx, s, trace)
}

// took is what ran since it was asked last.
func (a *actor) took() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	ran := strings.Join(a.ran, ", ")
	a.ran = nil
	return ran
}

func (a *actor) plays(play func(ctx context.Context, s script, trace bool) outcome) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.play = play
}

// listener remembers what was told.
type listener struct {
	mu    sync.Mutex
	notes []string
}

func (l *listener) failed(_ context.Context, _ Node, s script, o outcome) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.notes = append(l.notes, noteOf(s, o))
}

func (l *listener) succeeded(script) {}

func (l *listener) heard() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.notes)
}
