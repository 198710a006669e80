package gateway

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/d8-registry/registry/internal/datapath/proxy"
	"github.com/d8-registry/registry/internal/upstream"
)

// TestTheTargetIsLookedAt: a report is due when pulls from the target begin to fail, and
// when they do not any more; not in between.
func TestTheTargetIsLookedAt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newTestLoaded(t)
		target := upstream.Upstream{Host: "127.0.0.1:1", Path: "team", Scheme: upstream.HTTP}
		l.apply(content(t, 1, target))
		ctx, stop := context.WithCancel(t.Context())
		reports, ended := []string{}, make(chan struct{})
		go func() {
			defer close(ended)
			lookAtTarget(ctx, l, func() { reports = append(reports, l.status().targetFails) })
		}()
		pulls := proxy.New(l.table, proxy.Config{})
		for range 6 {
			w := httptest.NewRecorder()
			pulls.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/v2/system/deckhouse/app/manifests/x?ns=registry.d8-system.svc:5001", nil))
			if w.Code != http.StatusBadGateway {
				t.Fatalf("%d %s", w.Code, w.Body)
			}
			<-time.After(15 * time.Second)
		}
		<-time.After(time.Minute)
		synctest.Wait()
		if len(reports) != 1 || !strings.HasPrefix(reports[0], target.String()+": pulls from it fail: ") {
			t.Errorf("they fail: %q", reports)
		}
		<-time.After(15 * time.Minute) // nobody asks
		synctest.Wait()
		if len(reports) != 2 || reports[1] != "" {
			t.Errorf("it is not known any more: %q", reports)
		}
		stop()
		<-ended
	})
}
