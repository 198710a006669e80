package agent

import (
	"testing"
	"time"

	"github.com/d8-registry/registry/internal/node/containerd"
)

func TestKnownGoesStale(t *testing.T) {
	t.Parallel()
	now := time.Now()
	var none *known
	if !none.stale(now, time.Hour) {
		t.Error("nothing known is stale")
	}
	k := &known{facts: containerd.Facts{Preflight: containerd.Ready}, at: now}
	if k.stale(now.Add(time.Minute), time.Hour) || !k.stale(now.Add(time.Hour), time.Hour) {
		t.Error("good configuration: at the interval")
	}
	k.facts.Preflight = containerd.Custom
	if k.stale(now.Add(time.Second), time.Hour) || !k.stale(now.Add(later), time.Hour) {
		t.Error("bad configuration: somebody may be repairing it")
	}
}
