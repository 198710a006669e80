package handoff

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/d8-registry/registry/internal/node/durable"
	"github.com/d8-registry/registry/internal/pki"
)

// contents are the files in a folder, by their names.
func contents(dir string) (names []string) {
	_ = filepath.WalkDir(dir, func(_ string, d os.DirEntry, _ error) error {
		if !d.IsDir() {
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
	f, err := Use(t.Context(), dir)
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
		f, err := Use(t.Context(), dir)
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

// TestWhoComesWhileTheFolderGoes has a whole folder, and not the one that is gone.
func TestWhoComesWhileTheFolderGoes(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "registry-agent")
	leaves, err := Use(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := durable.Lock(t.Context(), leaves.serves); err != nil {
		t.Fatal(err)
	}
	came := make(chan *Hold, 1)
	go func() {
		f, err := Use(t.Context(), dir)
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
	defer f.Close()
	if err := errors.Join(f.SaveCA(pki.KeyPair{Cert: "cert", Key: "key"}), f.SaveMemory("what node remembers")); err != nil {
		t.Error(err)
	}
}
