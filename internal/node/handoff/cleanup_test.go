package handoff

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/d8-registry/registry/internal/pki"
)

// TestClearAndRemove fills the folder as both halves and scripts do, clears it, writes
// there again as an agent that stays, and removes it.
func TestClearAndRemove(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "registry-agent")
	f, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	ca := pki.KeyPair{Cert: "cert", Key: "key"}
	fill := func() {
		t.Helper()
		tokens, err := f.EnsureTokens(time.Now())
		lock, lockErr := f.Lock(t.Context())
		if err := errors.Join(err, lockErr, f.SaveCA(ca), f.SaveLayout([]byte("layout")), f.SaveMemory(map[string]string{"a": "b"})); err != nil || tokens.Token == "" {
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
	if err := errors.Join(os.WriteFile(outside, nil, 0o600), os.Symlink(filepath.Dir(outside), filepath.Join(dir, dirServe, "link"))); err != nil {
		t.Fatal(err)
	}
	if err := f.Clear(); err != nil {
		t.Fatal(err)
	}
	var left []string
	_ = filepath.WalkDir(dir, func(_ string, d os.DirEntry, _ error) error {
		if !d.IsDir() {
			left = append(left, d.Name())
		}
		return nil
	})
	if want := []string{fileLock, fileCA, fileCAKey, fileToken}; !slices.Equal(left, want) { // what a serve at work is known by
		t.Errorf("left: %v, want %v", left, want)
	}
	if _, err := os.Stat(outside); err != nil {
		t.Errorf("a link was followed: %v", err)
	}
	fill()
	if other := t.TempDir(); f.Remove(other) == nil {
		t.Errorf("%s is another folder and was taken for ours", other)
	}
	if err := f.Remove(dir); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("the folder is there: %v", err)
	}
}
