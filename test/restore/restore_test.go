package restore

import (
	"os"
	"testing"

	"github.com/go-logr/logr"
	ctrl "sigs.k8s.io/controller-runtime"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/test/harness/apiserver"
)

var server apiserver.Server

func TestMain(m *testing.M) {
	ctrl.SetLogger(logr.Discard())
	os.Exit(server.Main(m))
}

// Nodes know generations that the restored cluster has never heard of, and versions
// of their RegistryNode that it has not reached again. Nobody is restarted but etcd
// and the API server.
func TestRestoreOfEtcd(t *testing.T) {
	c := newCluster(t, "master", "w1", "w2")
	c.ask("first")
	c.wantConverged("before the backup", 0)
	backup := server.Backup(t)
	for i, paths := range [][]string{{"second", "third"}, {"fourth", "fifth"}} {
		known := c.wantConverged("after the API server was away", 0)
		for _, p := range paths {
			c.ask(p)
			known = c.wantConverged("on "+p, known)
		}
		c.hour()
		server.Restore(t, backup)
		if asked := c.asked(); asked != "first" {
			t.Fatalf("restore %d: the cluster still asks for %q", i+1, asked)
		}
		known = c.wantConverged("after the restore", known)
		c.ask("after")
		for c.layout().Target.Path != "after" { // each node that is believed may be a generation before
			known = c.wantConverged("asked after the restore", known)
		}
		c.wantConverged("with what was asked", known-1)
		if all := c.Conditions(); !all.Done(v1alpha1.ConditionTransition) {
			t.Errorf("restore %d:\n%v", i+1, all)
		}
	}
}
