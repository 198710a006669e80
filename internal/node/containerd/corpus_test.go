package containerd_test

import (
	"bufio"
	"encoding/json"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/tools/txtar"

	"github.com/d8-registry/registry/internal/node/containerd"
	"github.com/d8-registry/registry/internal/node/distribution"
	"github.com/d8-registry/registry/test/harness/containerdtest"
	"github.com/d8-registry/registry/test/harness/parts"
)

var update = flag.Bool("update", false, "write what was found into testdata/facts")

// TestCorpus reads every layout in testdata/facts as each version of containerd
// does: its own binary dumps the configuration, in a file system of its own in
// which the files are where they would be on a node.
//
// A file begins with lines `versions: 1.6 1.7` (all, if there is none),
// `config: /path` (the stock one), `dir: /path` (containerd's working directory;
// the root) and `read-only: /path`. Files named want/VERSION... hold what is to be
// found.
func TestCorpus(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/facts/*.txtar")
	if err != nil || len(files) < 20 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			t.Parallel()
			corpus(t, file)
		})
	}
}

// fixture is a file of layouts, and what was found last by each version.
type fixture struct {
	file                  string
	archive               *txtar.Archive
	files                 []txtar.File
	want                  map[string]string
	versions              []string
	title, follows        string
	config, dir, readOnly string
}

func readFixture(t *testing.T, file string) fixture {
	t.Helper()
	archive, err := txtar.ParseFile(file)
	if err != nil {
		t.Fatal(err)
	}
	f := fixture{file: file, archive: archive, want: map[string]string{}, config: "/etc/containerd/config.toml", dir: "/"}
	for line := range strings.Lines(string(archive.Comment)) {
		key, value, _ := strings.Cut(line, ":")
		value = strings.TrimSpace(value)
		switch key {
		case "versions":
			f.versions = strings.Fields(value)
		case "config":
			f.config = value
		case "dir":
			f.dir = value
		case "read-only":
			f.readOnly = value
		case "title":
			f.title = value
		case "follows":
			f.follows = value
		}
	}
	for _, v := range containerdtest.Versions() {
		if !strings.Contains(string(archive.Comment), "versions:") {
			f.versions = append(f.versions, string(v))
		}
	}
	for _, part := range archive.Files {
		if names, ok := strings.CutPrefix(part.Name, "want/"); ok {
			for v := range strings.SplitSeq(names, ",") {
				f.want[v] = string(part.Data)
			}
			continue
		}
		f.files = append(f.files, part)
	}
	return f
}

// corpus compares what is found with what the file says, and returns it.
func corpus(t *testing.T, file string) map[string]containerd.Facts {
	t.Helper()
	f := readFixture(t, file)
	n := newNode(t)
	for _, part := range f.files {
		n.write(t, part.Name, part.Data)
	}
	if f.readOnly != "" {
		n.run(t, "mount -o remount,ro "+f.readOnly)
	}
	var texts []string
	found, facts := map[string][]string{}, map[string]containerd.Facts{}
	for _, v := range f.versions {
		var got string
		facts[v], got = n.look(t, v, f.config, f.dir)
		if found[got] == nil {
			texts = append(texts, got)
		}
		found[got] = append(found[got], v)
		if got != f.want[v] && !*update {
			t.Errorf("containerd %s:\n%s\nwant\n%s", v, got, f.want[v])
		}
		if strings.Contains(got, "PASSWORD") {
			t.Errorf("containerd %s: a password is shown:\n%s", v, got)
		}
	}
	if *update {
		kept := f.files
		for _, text := range texts {
			kept = append(kept, txtar.File{Name: "want/" + strings.Join(found[text], ","), Data: []byte(text)})
		}
		if err := os.WriteFile(file, txtar.Format(&txtar.Archive{Comment: f.archive.Comment, Files: kept}), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return facts
}

// node is a file system of its own, with a process that is there.
type node struct{ pid int }

func newNode(t *testing.T) node {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("a mount namespace needs root")
	}
	cmd := exec.CommandContext(t.Context(), "unshare", "--mount", "sh", "-c",
		"for d in /etc /var /run /home /usr/share; do mount -t tmpfs node $d || exit 1; done; echo && exec sleep 600")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatal("no mount namespace: ", err)
	}
	return node{pid: cmd.Process.Pid}
}

// path is where we reach a file of the node.
func (n node) path(name string) string {
	return filepath.Join("/proc", strconv.Itoa(n.pid), "root", name)
}

// run runs a command where the node's process is.
func (n node) run(t *testing.T, command string) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "nsenter", "--mount", "--target", strconv.Itoa(n.pid), "sh", "-c", command).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v: %s", command, err, out)
	}
}

func (n node) write(t *testing.T, name string, data []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(n.path(name)), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(n.path(name), data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// process is a containerd of that version, as if it were the node's.
func (n node) process(t *testing.T, version, config string) containerd.Process {
	t.Helper()
	return containerd.Process{PID: n.pid, Start: "0", Config: config, Dir: "/", Binary: binary(t, version)}
}

// binary is what `make parts` made of that version.
func binary(t *testing.T, version string) string {
	t.Helper()
	parts.Need(t)
	folder := "containerd-" + version
	if version == string(containerdtest.V2) {
		folder = "bin"
	}
	path, err := filepath.Abs(filepath.Join("../../../.parts", folder, "containerd"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("%v; run: make parts", err)
	}
	return path
}

// look is what that version finds, and the same as text.
func (n node) look(t *testing.T, version, config, dir string) (containerd.Facts, string) {
	t.Helper()
	p := n.process(t, version, config)
	p.Dir = dir
	own, err := p.OwnVersion(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	facts := containerd.Look(t.Context(), p, own, containerd.Options{})
	text, err := json.MarshalIndent(shown(facts), "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	out := strings.ReplaceAll(string(text), own, "VERSION")
	return facts, strings.ReplaceAll(out, p.Binary, "CONTAINERD") + "\n"
}

// shown is what the corpus says of Facts.
func shown(f containerd.Facts) any {
	problems := make([]string, 0, len(f.Problems))
	for _, p := range f.Problems {
		problems = append(problems, p.String())
	}
	return struct {
		Distribution    distribution.Name
		Generated       bool `json:",omitempty"`
		ConfigVersion   int
		Paths           []string            `json:",omitempty"`
		PullPath        containerd.PullPath `json:",omitempty"`
		SandboxImage    string              `json:",omitempty"`
		Effective       string              `json:",omitempty"`
		NeedsPath       string              `json:",omitempty"`
		PathFile        string              `json:",omitempty"`
		NeedsPathReason string              `json:",omitempty"`
		Preflight       containerd.Preflight
		Message         string   `json:",omitempty"`
		Problems        []string `json:",omitempty"`
		Warnings        []string `json:",omitempty"`
	}{
		f.Distribution.Name, f.Distribution.Generated(), f.ConfigVersion, f.Paths, f.PullPath, f.SandboxImage, f.Effective,
		f.NeedsPath, f.PathFile, f.NeedsPathReason, f.Preflight, f.Message, problems, f.Warnings,
	}
}
