package nodescript

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

// theSeed is the NodeGroupConfiguration of the documentation.
func theSeed(t *testing.T) *unstructured.Unstructured {
	t.Helper()
	var o unstructured.Unstructured
	if err := yaml.Unmarshal([]byte(readFile(t, "../../../deploy/testdata/nodegroupconfiguration.yaml")), &o.Object); err != nil {
		t.Fatal(err)
	}
	return &o
}

const seedFile = `[host]
  [host."https://registry.deckhouse.ru"]
    capabilities = ["pull", "resolve"]
    skip_verify = true
    ca = ["/path/to/ca.crt"]
    [host."https://registry.deckhouse.ru".auth]
      username = "username"
      password = "password"
      # If providing auth string:
      auth = "<base64>"
`

// On a host that is seen from a container: through its root and into its
// namespaces.
func TestSeedOnAnotherHost(t *testing.T) {
	t.Parallel()
	host, etc := otherHost(t)
	b := bashOn(t, host, DefaultStateDir)
	seed := theSeed(t)
	seed.Object["spec"].(map[string]any)["weight"] = int64(0)
	s, err := readScript(seed)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(s.content, "<base64>") || s.weight != 0 {
		t.Fatalf("not the seed: %+v", s)
	}
	if o := b.run(t.Context(), s, false); o.failure != "" {
		t.Fatalf("%s: %s", o.failure, o.stderr)
	}
	if got := readFile(t, filepath.Join(etc, "containerd/registry.d/registry.io/hosts.toml")); got != seedFile {
		t.Errorf("the file is\n%s", got)
	}
	if _, err := os.Stat("/etc/containerd/registry.d/registry.io"); err == nil {
		t.Error("it was written here and not on the host")
	}
	if got := b.runs(t, "hostname; echo $PWD; readlink /proc/1/ns/net; readlink /proc/self/ns/net; readlink /proc/1/root; ls "+DefaultStateDir); !strings.HasPrefix(got, "other\n/\n") {
		t.Errorf("the host, as a script sees it:\n%s", got)
	} else if lines := strings.Split(got, "\n"); lines[2] != lines[3] || lines[4] != "/" {
		t.Errorf("the host, as a script sees it:\n%s", got)
	}
	if _, err := os.Stat(DefaultStateDir + "/" + libraryFile); err == nil {
		t.Error("the state folder is here and not on the host")
	}
}

func TestNoBashOnTheHost(t *testing.T) {
	t.Parallel()
	b := bashOn(t, Host{Root: t.TempDir(), PID: 1}, "/state")
	if o := b.run(t.Context(), script100("a", "true"), false); !strings.Contains(o.failure, "the host has no bash") {
		t.Errorf("failed with %q", o.failure)
	}
}

func TestContentArrivesIntact(t *testing.T) {
	t.Parallel()
	b := newBash(t)
	content := "#!/bin/bash\n# {{ .cri }} {{`x`}} $(nothing) \\ \t\"'\n" + strings.Repeat("# filler\n", 20000) +
		"cat <<'END'\n$VAR ${VAR} <base64> {{ .registry }} \\n ü\nEND\nVAR=v\ncat <<END\n$VAR\nEND\necho \"$LINENO $0\""
	s := script100("test", content)
	got := b.runs(t, content)
	want := fmt.Sprintf("$VAR ${VAR} <base64> {{ .registry }} \\n ü\nv\n%d %s\n", strings.Count(content, "\n")+1, b.folder.onHost("steps/100_test"))
	if got != want {
		t.Errorf("printed\n%s\nwant\n%s", got, want)
	}
	if file, err := b.folder.root.ReadFile("steps/" + s.file()); err != nil || string(file) != content {
		t.Errorf("the file differs: %v", err)
	}
	for _, name := range []string{".", "steps", "steps/100_test", "output", "output/100_test.log", "flags", libraryFile} {
		if info, err := b.folder.root.Stat(name); err != nil || info.Mode()&0o077 != 0 {
			t.Errorf("%s: %v %v", name, info.Mode(), err)
		}
	}
}

func TestShellOptions(t *testing.T) {
	t.Parallel()
	b := newBash(t)
	for name, content := range map[string]string{
		"a failing command ends it": "false; true", "so does one in a pipe": "false | true",
		"so does one in a function": "f() { false; true; }; f; true", "a return code": "exit 3", "no such command": "no-such-command",
		"a syntax error": "if then", "killed": "kill -9 $$", "an error in a source": ". /no/such/file",
	} {
		if o := b.run(t.Context(), script100("test", content), false); o.failure == "" {
			t.Errorf("%s: it succeeded", name)
		}
	}
	if got := b.runs(t, `echo $-; set -o | grep pipefail; trap 'echo "err $?"' ERR; f() { false; }; f || true; set +e; f; true`); !strings.HasPrefix(got, "ehBE\npipefail       \ton\n") || !strings.Contains(got, "err 1\n") {
		t.Errorf("printed %q", got)
	}
	if o := b.fails(t, "true\ntest -e /no/such/file\n"); o.stderr != "line 2: exit status 1" {
		t.Errorf("a command that fails without a word: %q", o.stderr)
	}
	if o := b.fails(t, "f() {\n test -e /no/such/file\n}\nset +e\nf\nset -e\nf\n"); o.stderr != "line 2: exit status 1" {
		t.Errorf("in a function: %q", o.stderr)
	}
	if o := b.fails(t, "echo fine\r\nif true; then\r\necho\r\nfi\r\n"); !strings.Contains(o.failure, "line 1 ends with CR LF") {
		t.Errorf("line ends: %q", o.failure)
	}
	if o := b.run(t.Context(), script100("test", "a\x00b"), false); !strings.Contains(o.failure, "NUL") {
		t.Errorf("a NUL byte: %q", o.failure)
	}
}

func TestEnvironment(t *testing.T) {
	t.Setenv("SECRET_OF_THE_AGENT", "x")
	b := newBash(t)
	got := b.runs(t, "env | grep -v '^BB_RUN=' | sort; umask; readlink /proc/self/fd/0; cat")
	want := `DEBIAN_FRONTEND=noninteractive
HOME=/root
LANG=C
LOGNAME=root
OLDPWD=/
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
PWD=/
SHELL=/bin/bash
SHLVL=1
USER=root
_=/usr/bin/env
0022
/dev/null
`
	if got != want {
		t.Errorf("a script finds\n%s\nwant\n%s", got, want)
	}
}

func TestOutput(t *testing.T) {
	t.Parallel()
	b := newBash(t)
	o := b.fails(t, `for i in {1..20000}; do echo "out $i"; done; for i in {1..200}; do echo "error $i" >&2; done; printf 'ü%.0s' {1..300} >&2; exit 1`)
	if len(o.stderr) > stderrTail || len(o.stderr) < stderrTail-4 || !strings.HasSuffix(o.stderr, "üüü") {
		t.Errorf("%d bytes: %q", len(o.stderr), o.stderr)
	}
	if strings.Contains(o.failure, "error") || !strings.Contains(o.failure, "output/100_test.log on the node") {
		t.Errorf("failed with %q", o.failure)
	}
	if got := b.printed(t, script100("test", "")); len(got) != outputTail || !strings.Contains(got, "error 200\n") {
		t.Errorf("%d bytes are kept", len(got))
	}
}

// A trace is for whoever is on the node: it quotes what the script handles.
func TestTraceStaysOnTheNode(t *testing.T) {
	t.Parallel()
	b := newBash(t)
	s := script100("test", "password=secret\nx=$(echo \"$password\")\necho broken >&2\n[ \"$x\" = other ]")
	o := b.run(t.Context(), s, true)
	if o.stderr != "broken\nline 4: exit status 1" {
		t.Errorf("standard error %q", o.stderr)
	}
	if got := b.printed(t, s); !strings.Contains(got, "+ line 4: '[' secret = other ']'") {
		t.Errorf("the trace is\n%s", got)
	}
}

func TestLimits(t *testing.T) {
	t.Parallel()
	t.Run("too long", func(t *testing.T) {
		t.Parallel()
		b := newBash(t)
		b.timeout = 300 * time.Millisecond
		started := time.Now()
		o := b.run(t.Context(), script100("test", "bb-event-on e 'echo handled'; bb-event-delay e; sleep 1000 & sleep 1000"), false)
		if o.failure != "did not end within 300ms and was stopped" || time.Since(started) > 3*time.Second {
			t.Errorf("%q after %v", o.failure, time.Since(started))
		}
		if got := b.printed(t, script100("test", "")); strings.Contains(got, "handled") {
			t.Errorf("printed %q", got)
		}
	})
	t.Run("deaf", func(t *testing.T) {
		t.Parallel()
		b := newBash(t)
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(500*time.Millisecond, cancel)
		pid := filepath.Join(t.TempDir(), "pid")
		o := b.run(ctx, script100("test", "trap '' TERM; (trap '' TERM; echo $BASHPID > "+pid+"; while true; do sleep 1000; done) & while true; do sleep 1000; done"), false)
		if o.failure == "" {
			t.Error("it succeeded")
		}
		gone(t, strings.TrimSpace(readFile(t, pid)))
	})
	t.Run("leaves something running", func(t *testing.T) {
		t.Parallel()
		b := newBash(t)
		o := b.run(t.Context(), script100("test", "setsid sleep 30 & echo $!"), false)
		if o.failure != "" {
			t.Errorf("failed with %q", o.failure)
		}
		left := strings.TrimSpace(b.printed(t, script100("test", "")))
		if err := exec.CommandContext(t.Context(), "kill", left).Run(); err != nil {
			t.Errorf("what it left does not run: %v", err)
		}
	})
}

// gone waits until a process has ended.
func gone(t *testing.T, pid string) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for {
		stat, err := os.ReadFile("/proc/" + pid + "/stat")
		if err != nil || strings.Contains(string(stat), ") Z ") {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("process %s still runs: %s", pid, stat)
		}
		timer := time.NewTimer(20 * time.Millisecond)
		<-timer.C
	}
}

// What an agent that was killed left running is ended before anything runs.
func TestCutOff(t *testing.T) {
	t.Parallel()
	for _, where := range []string{"here", "another host"} {
		t.Run(where, func(t *testing.T) {
			t.Parallel()
			host, dir := Host{Root: "/"}, filepath.Join(t.TempDir(), "scripts")
			if where != "here" {
				host, _ = otherHost(t)
				dir = DefaultStateDir
			}
			b := bashOn(t, host, dir)
			ctx, crash := context.WithCancel(t.Context())
			defer crash()
			ended := make(chan outcome, 1)
			// nsenter's own environment bears the mark, so do all below it.
			go func() {
				ended <- b.run(ctx, script100("test", "bb-flag-set runs; trap '' TERM; sleep 1000; sleep 1000"), false)
			}()
			for b.folder.list(flagsDir) == nil || len(b.folder.list(flagsDir)) == 0 {
				timer := time.NewTimer(10 * time.Millisecond)
				<-timer.C
			}
			left, ok := b.folder.interrupted()
			if !ok || !left.alive() {
				t.Fatalf("not known: %+v", left)
			}
			other := left
			other.Mark = markName + "another"
			if other.alive() {
				t.Error("a group with another mark is taken for ours")
			}
			left.end(t.Context(), "another boot")
			if !left.alive() {
				t.Fatal("a record of another boot ended it")
			}
			left.end(t.Context(), "boot")
			if left.alive() {
				t.Error("it still runs")
			}
			if o := <-ended; o.failure == "" {
				t.Error("it succeeded")
			}
			if _, ok := b.folder.interrupted(); ok {
				t.Error("it is still noted")
			}
		})
	}
}

// Nothing of a script runs before its process is noted.
func TestGate(t *testing.T) {
	t.Parallel()
	b, dir := newBash(t), t.TempDir()
	if err := b.folder.root.Mkdir(runningFile, 0o700); err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(b.folder.path, runningFile, "x"), "", 0o600)
	if o := b.run(t.Context(), script100("test", "touch "+dir+"/ran"), false); !strings.Contains(o.failure, runningFile) {
		t.Errorf("failed with %q", o.failure)
	}
	if _, err := os.Stat(dir + "/ran"); err == nil {
		t.Error("it ran")
	}
}
