package usermirror

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/d8-registry/registry/internal/node/durable"
	"github.com/d8-registry/registry/internal/node/durable/durabletest"
	"github.com/d8-registry/registry/internal/node/hostsdir"
	"github.com/d8-registry/registry/internal/node/hostsfile"
)

const crashFile = "[host]\n[host.\"https://m.io\"]\n[host.\"https://m.io\".auth]\nusername = \"u\"\npassword = \"p\""

// TestCrashAnywhere stops the agent at each operation, both while blocks come
// and while they go: at every moment the file is the user's own or has a whole
// block whose CA is there, and the next start ends the work.
func TestCrashAnywhere(t *testing.T) {
	t.Parallel()
	for _, kill := range durabletest.Kills() {
		t.Run(string(kill), func(t *testing.T) {
			t.Parallel()
			crashAnywhere(t, kill)
		})
	}
}

func crashAnywhere(t *testing.T, kill durabletest.Kill) {
	for at := 1; ; at++ {
		dir := t.TempDir()
		for host, mode := range map[string]fs.FileMode{"a.io": 0o644, "b.io": 0} {
			if os.Geteuid() != 0 {
				mode = 0o644 // only root reads a file that nobody may read
			}
			if err := os.Mkdir(filepath.Join(dir, host), 0o755); err != nil {
				t.Fatal(err)
			}
			name := filepath.Join(dir, host, fileHosts)
			if err := os.WriteFile(name, []byte(crashFile), mode); err != nil {
				t.Fatal(err)
			}
			past := time.Now().Add(-time.Minute)
			if err := os.Chtimes(name, past, past); err != nil {
				t.Fatal(err)
			}
		}
		before := crashTree(t, dir)
		both := []string{"a.io", "b.io"}
		lives := crashRun(t, dir, both, at, kill)
		crashSound(t, dir, fmt.Sprintf("put, crash at %d", at))
		crashRun(t, dir, both, 1000, kill)
		crashSound(t, dir, fmt.Sprintf("put, after the crash at %d", at))
		if got := crashTree(t, dir); !strings.Contains(got["a.io/hosts.toml"], markEnd) || !strings.Contains(got["b.io/hosts.toml"], markEnd) {
			t.Fatalf("crash at %d: the work was not ended", at)
		}
		lives = crashRun(t, dir, nil, at, kill) && lives
		crashSound(t, dir, fmt.Sprintf("take, crash at %d", at))
		crashRun(t, dir, nil, 1000, kill)
		if after := crashTree(t, dir); !maps.Equal(before, after) {
			t.Fatalf("crash at %d: not as before\n%v\n%v", at, before, after)
		}
		if lives {
			if at < 10 {
				t.Fatalf("only %d operations: nothing was tried", at)
			}
			return
		}
	}
}

// crashRun makes one pass of a process that dies at that operation, and reports
// whether it lived.
func crashRun(t *testing.T, dir string, blocks []string, at int, kill durabletest.Kill) bool {
	t.Helper()
	folder, err := durable.OpenDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = folder.Close() }()
	p := durabletest.NewProcess(at, kill)
	a := &applier{fsys: p.FS(folder), shown: dir, blocks: blocks, now: time.Now()}
	a.plan.agent = hostsdir.Options{AgentURL: "https://127.0.0.1:5001", Token: "0123456789abcdef", AgentCA: "a CA"}
	if err := a.run(); (err != nil) != p.Dead() {
		t.Fatalf("%v after %q", err, p.Steps())
	}
	return !p.Dead()
}

func crashTree(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(dir, func(name string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		data, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		short, err := filepath.Rel(dir, name)
		out[short] = fmt.Sprintf("%s %s %s", data, info.Mode(), info.ModTime())
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// crashSound is what containerd and everybody else on the node may rely on.
func crashSound(t *testing.T, dir, when string) {
	t.Helper()
	for _, host := range []string{"a.io", "b.io"} {
		name := filepath.Join(dir, host, fileHosts)
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatalf("%s: %v", when, err)
		}
		own, marked := cut(data)
		if string(own) != crashFile {
			t.Fatalf("%s: the user's part is now %q", when, own)
		}
		if !marked {
			continue
		}
		doc, err := hostsfile.For("").Read(data)
		if err != nil || len(doc.Hosts) != 2 {
			t.Fatalf("%s: containerd reads %v, %v", when, doc, err)
		}
		if ca, err := os.ReadFile(filepath.Join(dir, fileBlockCA)); err != nil || string(ca) != "a CA" {
			t.Fatalf("%s: the block names a CA that is not there: %v", when, err)
		}
		if info, err := os.Stat(name); err != nil || info.Mode().Perm() != 0o600 {
			t.Fatalf("%s: who may read the token: %v, %v", when, info.Mode(), err)
		}
	}
}

// TestDamagedBlocks are what people leave of a block by hand.
func TestDamagedBlocks(t *testing.T) {
	t.Parallel()
	with, err := insert(hostsfile.For(""), []byte(crashFile+"\n"), "https://127.0.0.1:5001", "0123456789abcdef")
	if err != nil {
		t.Fatal(err)
	}
	whole := string(with)
	for name, text := range map[string]string{
		"no end":          strings.Replace(whole, markEnd+"\n", "", 1),
		"no begin":        strings.Replace(whole, markBegin+"\n", "", 1),
		"twice":           strings.Replace(whole, markBegin, strings.Join(append([]string{markBegin}, append(block("https://127.0.0.1:5001", "x"), markEnd, markBegin)...), "\n"), 1),
		"changed inside":  strings.Replace(whole, capabilities, "capabilities = [\"push\"]", 1),
		"indented":        strings.ReplaceAll(whole, "\n#", "\n   #"),
		"CRLF":            strings.ReplaceAll(whole, "\n", "\r\n"),
		"older note":      strings.Replace(whole, markNote, markNote+" More.", 1),
		"no end, at last": "[host]\n" + markBegin + "\n" + strings.Join(block("https://127.0.0.1:5001", "x"), "\n"),
	} {
		own, found := cut([]byte(text))
		want := crashFile + "\n"
		switch name {
		case "CRLF":
			want = strings.ReplaceAll(want, "\n", "\r\n")
		case "no end, at last":
			want = "[host]\n"
		}
		if !found || string(own) != want {
			t.Errorf("%s: left %q", name, own)
		}
	}
}

// TestRefusedBlocks are files in which a block would change what the user said.
func TestRefusedBlocks(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]error{
		"[host]\n\"https://a\" = {skip_verify = true}\n":            errInline,
		"host.\"https://a\".skip_verify = true\n[host.\"b\"]\n":     errInline,
		"host = {\"https://a\" = {skip_verify = true}}\n":           errInline,
		"[host]\n[host.\"https://127.0.0.1:5001\"]\nca = \"x.crt\"": errNamed,
	} {
		if got, err := insert(hostsfile.For(""), []byte(text), "https://127.0.0.1:5001", "t"); !errors.Is(err, want) {
			t.Errorf("%q: %v\n%s", text, err, got)
		}
	}
}

// TestPlaces are files of every form that takes a block, and where it goes.
func TestPlaces(t *testing.T) {
	t.Parallel()
	const mark = "BLOCK"
	for text, want := range map[string]string{
		"[host]":                             "[host]\n" + mark,
		"[host]\r\n[host.\"b\"]\r\n":         "[host]\r\n" + mark + "[host.\"b\"]\r\n",
		"server = 'x'":                       "server = 'x'\n" + mark,
		"server = 'x'\n":                     "server = 'x'\n" + mark,
		"":                                   mark,
		"[auth]\nusername = 'u'\n":           mark + "[auth]\nusername = 'u'\n",
		"x = 1\n  [host.\"b\".auth]\n[host]": "x = 1\n" + mark + "  [host.\"b\".auth]\n[host]",
	} {
		got, err := insert(hostsfile.For(""), []byte(text), "https://127.0.0.1:5001", "t")
		if err != nil {
			t.Errorf("%q: %v", text, err)
			continue
		}
		begin, end := strings.Index(string(got), markBegin), strings.Index(string(got), markEnd)+len(markEnd)
		end += len("\n")
		if strings.Contains(text, "\r\n") {
			end++
		}
		if shape := string(got[:begin]) + mark + string(got[end:]); shape != want {
			t.Errorf("%q: %q", text, shape)
		}
		if back, found := cut(got); !found || string(back) != text {
			t.Errorf("%q: comes back as %q", text, back)
		}
	}
}
