package handoff_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/d8-registry/registry/internal/node/handoff"
	"github.com/d8-registry/registry/internal/upstream"
)

// serveUser is the number of no user of the machine.
const serveUser = 64535

// asServe names the folder in which the test's own program acts as serve.
const asServe = "SEAM_TEST_AS_SERVE"

func TestMain(m *testing.M) {
	if dir := os.Getenv(asServe); dir != "" {
		for _, problem := range actAsServe(dir) {
			fmt.Fprintln(os.Stderr, problem)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// actAsServe does what serve does and what it must not be able to do, and says
// what is not as it should be.
func actAsServe(dir string) (problems []string) {
	must := func(what string, err error) {
		if err != nil {
			problems = append(problems, what+": "+err.Error())
		}
	}
	mustNot := func(what string, err error) {
		if !errors.Is(err, fs.ErrPermission) {
			problems = append(problems, what+": "+errorText(err))
		}
	}
	folder, err := handoff.Open(dir)
	must("open", err)
	_, err = folder.EnsureTokens(time.Now())
	must("token", err)
	must("layout", folder.SaveLayout([]byte("new")))
	hosts, err := folder.Mirrors()
	must("mirrors", err)
	if len(hosts) != 1 {
		problems = append(problems, "the users' mirrors are not there")
	}
	_, err = os.ReadDir(dir)
	mustNot("list the folder", err)
	_, err = os.ReadFile(filepath.Join(dir, "node.json"))
	mustNot("read what node remembers", err)
	mustNot("replace what node remembers", os.Rename(filepath.Join(dir, "serve", "token"), filepath.Join(dir, "node.json")))
	mustNot("take scripts away", os.Rename(filepath.Join(dir, "scripts"), filepath.Join(dir, "serve", "scripts")))
	mustNot("new file", os.WriteFile(filepath.Join(dir, "reconfigure.json"), nil, 0o600))
	mustNot("change mirrors", os.WriteFile(filepath.Join(dir, "mirrors.json"), nil, 0o600))
	mustNot("take its folder away", os.Rename(filepath.Join(dir, "serve"), filepath.Join(dir, "mine")))
	mustNot("open the folder", os.Chmod(dir, 0o777))
	_, err = os.ReadFile("/etc/shadow")
	mustNot("read what is root's", err)
	mustNot("end what is root's", syscall.Kill(1, 0))
	_, err = os.ReadDir("/proc/1/root/")
	mustNot("look into another's root", err)
	return problems
}

func errorText(err error) string {
	if err == nil {
		return "it may"
	}
	return err.Error()
}

// prepared is a folder as the init container leaves it, in a place that every
// user of the machine can reach.
func prepared(t *testing.T) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can give files away")
	}
	base := t.TempDir()
	for _, dir := range []string{base, filepath.Dir(base)} {
		if err := os.Chmod(dir, 0o711); err != nil {
			t.Fatal(err)
		}
	}
	dir := filepath.Join(base, "state")
	if err := handoff.Prepare(dir, serveUser); err != nil {
		t.Fatal(err)
	}
	return dir
}

func mirrors() []upstream.UserHost {
	return []upstream.UserHost{{Name: "registry.io"}}
}

// TestServeNeedNotBeRoot: the halves share a folder, and serve can do its work
// and nothing else in it, also one that a serve as root has left.
func TestServeNeedNotBeRoot(t *testing.T) {
	dir := prepared(t)
	node, err := handoff.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(node.SaveMemory("memory"), node.SaveLayout([]byte("by root")), os.Mkdir(filepath.Join(dir, "scripts"), 0o700)); err != nil {
		t.Fatal(err)
	}
	if _, err := node.SaveMirrors(mirrors()); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time it changes nothing
		if err := handoff.Prepare(dir, serveUser); err != nil {
			t.Fatal(err)
		}
	}
	program := filepath.Join(filepath.Dir(dir), "program")
	own, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	// No program that starts meanwhile may inherit the open file: it could not be run.
	syscall.ForkLock.RLock()
	err = os.WriteFile(program, own, 0o755)
	syscall.ForkLock.RUnlock()
	if err != nil {
		t.Fatal(err)
	}
	serve := exec.CommandContext(t.Context(), program)
	serve.Dir, serve.Env = "/", []string{asServe + "=" + dir}
	serve.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: serveUser, Gid: serveUser}}
	if out, err := serve.CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("%v\n%s", err, out)
	}
	if token, err := node.Token(); err != nil || len(token) != 64 {
		t.Errorf("node has no token: %v", err)
	}
	info, err := os.Stat(filepath.Join(dir, "mirrors.json"))
	if err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("who may read the users' mirrors: %v, %v", info.Mode(), err)
	}
}

// TestNodeReadsNothingElse: what serve puts in the place of its files does not
// make root read others, nor wait.
func TestNodeReadsNothingElse(t *testing.T) {
	t.Parallel()
	dir := prepared(t)
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte(strings.Repeat("s", 64)), 0o600); err != nil {
		t.Fatal(err)
	}
	token := filepath.Join(dir, "serve", "token")
	for what, place := range map[string]func() error{
		"link":   func() error { return os.Symlink(secret, token) },
		"pipe":   func() error { return syscall.Mkfifo(token, 0o600) },
		"socket": func() error { return syscall.Mknod(token, syscall.S_IFSOCK|0o600, 0) },
		"folder": func() error { return os.Mkdir(token, 0o700) },
		"very much": func() error {
			return errors.Join(os.WriteFile(token, nil, 0o600), os.Truncate(token, 1<<40))
		},
	} {
		if err := place(); err != nil {
			t.Fatal(err)
		}
		node, err := handoff.Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := node.Token(); err == nil {
			t.Errorf("%s: read %d bytes", what, len(got))
		}
		if err := handoff.Prepare(dir, serveUser); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		if err := os.Remove(token); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Link(secret, token); err != nil {
		t.Fatal(err)
	}
	if err := handoff.Prepare(dir, serveUser); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(secret)
	if err != nil {
		t.Fatal(err)
	}
	if owner, ok := info.Sys().(*syscall.Stat_t); !ok || owner.Uid != 0 {
		t.Error("root's file was given away by a second name of it")
	}
}

// TestOneUser: tests, and `all` in one process, need no preparation.
func TestOneUser(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "state")
	folder, err := handoff.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := folder.SaveMirrors(mirrors()); err != nil {
		t.Fatal(err)
	}
	for name, mode := range map[string]fs.FileMode{".": 0o700, "serve": 0o700, "mirrors.json": 0o600} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Mode().Perm() != mode {
			t.Errorf("%s: %v, %v", name, info.Mode(), err)
		}
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := handoff.Open(dir); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
}
