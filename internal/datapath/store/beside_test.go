package store

import (
	"path/filepath"
	"testing"

	"github.com/d8-registry/registry/internal/datapath/store/disk"
)

func TestBesideAnEtcd(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, c := range []struct {
		etcd string
		want bool
	}{
		{t.TempDir(), true}, {"/proc", false}, {filepath.Join(dir, "nothing"), false}, {"", false},
	} {
		if got := sameDisk(dir, c.etcd); got != c.want {
			t.Errorf("%q: %t", c.etcd, got)
		}
	}
	folder, err := disk.OpenFolder(dir)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second one finds the file
		if took, err := probe(folder); err != nil || took <= 0 {
			t.Errorf("a probe took %s: %v", took, err)
		}
	}
	if err := folder.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := probe(folder); err == nil {
		t.Error("a probe without a disk is quick")
	}
}
