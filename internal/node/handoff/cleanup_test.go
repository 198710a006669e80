package handoff

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/d8-registry/registry/internal/node/durable"
	"github.com/d8-registry/registry/internal/pki"
)

// contents are the files in a folder, by their names.
func contents(dir string) (names []string) {
	_ = filepath.WalkDir(dir, func(_ string, d os.DirEntry, _ error) error {
		if d != nil && !d.IsDir() { // nil if there is no folder
			names = append(names, d.Name())
		}
		return nil
	})
	return names
}

// TestClearAndRemove fills the folder as both halves and scripts do. Each half takes away
// its own. Then they write there again, as an agent that stays, and it is removed.
func TestClearAndRemove(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "registry-agent")
	f, err := Use(t.Context(), dir, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	fill := func() {
		t.Helper()
		tokens, err := f.EnsureTokens(time.Now())
		lock, lockErr := f.Lock(t.Context())
		if err := errors.Join(err, lockErr, f.SaveCA(pki.KeyPair{Cert: "cert", Key: "key"}), f.SaveLayout([]byte("layout")), f.SaveRetired(nil), f.SaveMemory(map[string]string{"a": "b"})); err != nil || tokens.Token == "" {
			t.Fatal(err)
		}
		if err := lock.Close(); err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(filepath.Join(dir, "scripts", "flags"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	fill()
	outside := filepath.Join(t.TempDir(), "outside")
	crashed := f.servePath(fileLayout + durable.Suffix)
	if err := errors.Join(os.WriteFile(outside, nil, 0o600), os.WriteFile(crashed, nil, 0o600), os.Symlink(filepath.Dir(outside), f.nodePath("link"))); err != nil {
		t.Fatal(err)
	}
	stays := []string{fileCA, fileCAKey, fileToken} // what a serve at work is known by
	for _, c := range []struct {
		what string
		do   func() error
		left []string
	}{
		{"node's are gone", f.Clear, append([]string{fileLock}, fileCA, fileCAKey, fileLayout, fileLayout+durable.Suffix, fileRetired, fileToken)},
		{"serve's are gone", f.Forget, append([]string{fileLock}, stays...)},
	} {
		if err := c.do(); err != nil {
			t.Fatal(err)
		}
		if left := contents(dir); !slices.Equal(left, c.left) {
			t.Errorf("%s: left %v, want %v", c.what, left, c.left)
		}
	}
	if _, err := os.Stat(outside); err != nil {
		t.Errorf("a link was followed: %v", err)
	}
	fill()
	if err := f.Remove(t.Context(), dir); err == nil || len(contents(dir)) == 0 {
		t.Errorf("a layout that had come was removed: %v, left %v", err, contents(dir))
	}
	if err := f.Forget(); err != nil {
		t.Fatal(err)
	}
	if other := t.TempDir(); f.Remove(t.Context(), other) == nil {
		t.Errorf("%s is another folder and was taken for ours", other)
	}
	if err := f.Remove(t.Context(), dir); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("the folder is there: %v", err)
	}
}

// TestTheFolderIsNotRemovedUnderAnybody: while a serve of this Pod or an agent of the next
// one uses it, it stays as it is.
func TestTheFolderIsNotRemovedUnderAnybody(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "registry-agent")
	use := func() *Hold {
		t.Helper()
		f, err := Use(t.Context(), dir, 0)
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	serve, node := use(), use()
	if _, err := serve.EnsureTokens(time.Now()); err != nil {
		t.Fatal(err)
	}
	soon, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := node.Remove(soon, dir); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("removed although it is used: %v", err)
	}
	if left := contents(dir); !slices.Equal(left, []string{fileToken}) {
		t.Errorf("left %v", left)
	}
	removed := make(chan error, 1)
	go func() { removed <- node.Remove(t.Context(), dir) }()
	serve.Close()
	if err := <-removed; err != nil {
		t.Error(err)
	}
	node.Close()
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("the folder is there: %v", err)
	}
}

// TestWhoComesWhileTheFolderGoes has a whole folder, and not the one that is gone. It is
// one that serve can use.
func TestWhoComesWhileTheFolderGoes(t *testing.T) {
	t.Parallel()
	user := 0
	if os.Geteuid() == 0 { // who can give files away
		user = 64535
	}
	dir := filepath.Join(t.TempDir(), "registry-agent")
	leaves, err := Use(t.Context(), dir, user)
	if err != nil {
		t.Fatal(err)
	}
	if err := durable.Lock(t.Context(), leaves.serves); err != nil {
		t.Fatal(err)
	}
	came := make(chan *Hold, 1)
	go func() {
		f, err := Use(t.Context(), dir, user)
		if err != nil {
			t.Error(err)
		}
		came <- f
	}()
	<-time.After(300 * time.Millisecond) // it has opened what is removed now
	if err := leaves.Remove(t.Context(), dir); err != nil {
		t.Fatal(err)
	}
	leaves.Close()
	f := <-came
	if f == nil {
		return
	}
	defer f.Close()
	if err := errors.Join(f.SaveCA(pki.KeyPair{Cert: "cert", Key: "key"}), f.SaveMemory("what node remembers")); err != nil {
		t.Error(err)
	}
	var serves syscall.Stat_t
	if err := syscall.Lstat(f.servePath(""), &serves); err != nil || user != 0 && serves.Uid != uint32(user) {
		t.Errorf("serve's folder is that of user %d, %v", serves.Uid, err)
	}
}

// TestAHeldFolderIsNotWaitedForForEver: who holds it alone hangs. It is said, and tried anew.
func TestAHeldFolderIsNotWaitedForForEver(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "registry-agent")
		hangs, err := Use(t.Context(), dir, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer hangs.Close()
		if err := durable.Lock(t.Context(), hangs.serves); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		if _, err := Use(ctx, dir, 0); ctx.Err() != nil || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("after an hour %v, %v", ctx.Err(), err)
		}
	})
}
