package controller

import (
	"net/http"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"

	flowcontrolv1 "k8s.io/api/flowcontrol/v1"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/control/switchover"
	"github.com/d8-registry/registry/test/harness/loopback"
)

// TestTheLeaseWaitsForNobody: the API server serves the renewal of the lease with those
// of Kubernetes' own controllers, and all else that the controller asks for, which
// waits with what thousands of agents ask for, not.
func TestTheLeaseWaitsForNobody(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	var level flowcontrolv1.PriorityLevelConfiguration
	if err := c.Get(t.Context(), client.ObjectKey{Name: "leader-election"}, &level); err != nil {
		t.Fatal(err)
	}
	c.cfg.LeaderElect, c.cfg.MetricsAddress = true, loopback.Address(t)
	asked := &levels{of: map[bool]map[string]int{true: {}, false: {}}}
	config := rest.CopyConfig(c.cfg.REST)
	config.Wrap(func(next http.RoundTripper) http.RoundTripper { asked.next = next; return asked })
	c.start(config)
	c.reaches(switchover.Unmanaged, c.upstreamA())
	c.documented()
	asked.mu.Lock()
	defer asked.mu.Unlock()
	ours := string(level.UID)
	if lease := asked.of[true]; lease[ours] == 0 || len(lease) != 1 {
		t.Errorf("the lease was served on levels %v, want only %s", lease, ours)
	}
	if rest := asked.of[false]; len(rest) == 0 || rest[ours] > 0 {
		t.Errorf("all else was served on levels %v, want others than %s", rest, ours)
	}
}

// documented looks whether a controller that leads has those metrics of controller-runtime
// that docs/operations.md names.
func (c *testbed) documented() {
	c.t.Helper()
	page, err := os.ReadFile("../../../docs/operations.md")
	if err != nil {
		c.t.Fatal(err)
	}
	has, named := c.page(), regexp.MustCompile("`((?:leader|controller|rest|workqueue)_[a-z_]*)[*`]").FindAllSubmatch(page, -1)
	if len(named) < 6 {
		c.t.Errorf("operations.md names %q", named)
	}
	for _, m := range named {
		if !strings.Contains(has, "\n"+string(m[1])) {
			c.t.Errorf("operations.md names %s, which is not there", m[1])
		}
	}
}

// levels counts on which priority levels requests were served, those for the lease and
// all others.
type levels struct {
	next http.RoundTripper
	mu   sync.Mutex
	of   map[bool]map[string]int
}

func (l *levels) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := l.next.RoundTrip(r)
	if err == nil {
		l.mu.Lock()
		defer l.mu.Unlock()
		if level := resp.Header.Get(flowcontrolv1.ResponseHeaderMatchedPriorityLevelConfigurationUID); level != "" {
			name := strings.HasSuffix(r.URL.Path, "/namespaces/"+v1alpha1.Namespace+"/leases/"+lease)
			l.of[name || r.Method == http.MethodPost && strings.HasSuffix(r.URL.Path, "/leases")][level]++
		}
	}
	return resp, err
}
