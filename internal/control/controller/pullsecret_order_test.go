package controller

import (
	"slices"
	"testing"

	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/test/harness/apiserver"
)

// TestAPullSecretComesBeforeItsWorkload: a workload with an old name comes into a new
// namespace. In one pass it gets its pull secret and is re-pointed, in this order: a pod
// of the new template could not pull without the secret.
func TestAPullSecretComesBeforeItsWorkload(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	stop := c.begin()
	c.switchTo(c.upstreamA())
	stop()
	c.Namespace("d8-new", map[string]string{"heritage": "deckhouse"})
	c.Make(deployment("d8-new", "new", layout.NameOf(c.upstreamA()).Reference("@"+c.digest("alpha"))))
	faults := apiserver.NewFaultProxy(t, c.cfg.REST)
	c.start(faults.Config())
	c.eventually("it is re-pointed", func() bool { return c.image("d8-new", "new") == layout.Fixed().Reference("@"+c.digest("alpha")) })
	writes := faults.Writes()
	secret := slices.Index(writes, "POST /api/v1/namespaces/d8-new/secrets")
	workload := slices.Index(writes, "PATCH /apis/apps/v1/namespaces/d8-new/deployments/new")
	if secret < 0 || workload < 0 || secret > workload {
		t.Errorf("the secret was write %d, the workload write %d of %q", secret, workload, writes)
	}
}
