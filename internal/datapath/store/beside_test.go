package store

import (
	"log/slog"
	"path/filepath"
	"testing"

	"github.com/d8-registry/registry/internal/datapath/store/disk"
	"github.com/d8-registry/registry/internal/datapath/store/peer"
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
	for _, etcd := range []string{t.TempDir(), "/proc", ""} { // else the guard is off
		v := &volume{cfg: Config{Data: t.TempDir(), Etcd: etcd, Quota: 1 << 20}, log: slog.New(slog.DiscardHandler)}
		v.others = peer.New(peer.Config{Log: v.log})
		o, err := v.open(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if guarded := o.guard != nil; guarded != sameDisk(dir, etcd) {
			t.Errorf("%q: guarded %t", etcd, guarded)
		}
		if err := o.close(); err != nil {
			t.Error(err)
		}
		v.others.Close()
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
