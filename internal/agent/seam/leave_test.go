package seam

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/d8-registry/registry/internal/pki"
)

// TestVanish fills the folder as both halves and scripts do, clears it, writes
// there again as an agent that stays, and removes it.
func TestVanish(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "registry-agent")
	f, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	ca := pki.KeyPair{Cert: "cert", Key: "key"}
	fill := func() {
		t.Helper()
		if err := f.Keep("token", ca); err != nil {
			t.Fatal(err)
		}
		if err := f.SaveMemory(map[string]string{"a": "b"}); err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(filepath.Join(dir, "scripts", "flags"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	fill()
	if err := f.Keep("another", pki.KeyPair{Cert: "x", Key: "y"}); err != nil {
		t.Fatal(err)
	}
	if token, err := f.Token(); err != nil || token != "token" {
		t.Errorf("what is there is kept: %q, %v", token, err)
	}
	if err := f.Clear(); err != nil {
		t.Fatal(err)
	}
	var left []string
	_ = filepath.WalkDir(dir, func(path string, _ os.DirEntry, _ error) error { left = append(left, path); return nil })
	if len(left) != 2 { // itself and serve's
		t.Errorf("left: %v", left)
	}
	fill()
	if other := t.TempDir(); f.Vanish(other) == nil {
		t.Errorf("%s is another folder and was taken for ours", other)
	}
	if err := f.Vanish(dir); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("the folder is there: %v", err)
	}
}
