package agent_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	registryv1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/layout"
)

// TestOldDirectoryIsCleared: config_path moves. Until containerd starts again
// it looks where it did, so what is there stays; afterwards only what is ours
// goes.
func TestOldDirectoryIsCleared(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, a := registry(t, "team/a")
	const theirs = "certs.d/mirror.example.com/hosts.toml"
	w.containerd.Write(t, theirs, "# theirs\n")
	w.start()
	w.publish(a, []layout.Name{layout.Fixed()})
	w.reported()
	ours := filepath.Join(w.containerd.HostsDir, fixedHost)

	w.containerd.Configure(t, "[plugins.'io.containerd.cri.v1.images'.registry]\n  config_path = \"@/elsewhere\"\n")
	w.until("the new directory", func(s registryv1alpha1.RegistryNodeStatus) bool {
		return s.Generation == w.generation && s.Containerd.EffectiveDirectory == w.containerd.Dir+"/elsewhere"
	})
	<-time.After(time.Second) // a pass that would take it away
	if _, err := os.Stat(filepath.Join(ours, "hosts.toml")); err != nil {
		t.Errorf("containerd still looks there: %v", err)
	}
	w.must(w.pull(layout.Fixed().Reference("app:v1")))

	w.containerd.Stop()
	w.cri = w.containerd.Start(t)
	w.eventually("the removal of the old entries", func() bool {
		_, err := os.Stat(ours)
		return os.IsNotExist(err)
	})
	if _, err := os.Stat(filepath.Join(w.containerd.Dir, theirs)); err != nil {
		t.Errorf("theirs: %v", err)
	}
	w.must(w.pull(layout.Fixed().Reference("app:v1")))
}
