package front

import (
	"context"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/d8-registry/registry/internal/datapath/front/fronttest"
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
		l.Apply(Content{Data: fronttest.Content(t, 1, target)})
		ctx, stop := context.WithCancel(t.Context())
		var mu sync.Mutex
		var all []string
		reports := func() []string {
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			return slices.Clone(all)
		}
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			lookAtTarget(ctx, l, func() {
				mu.Lock()
				defer mu.Unlock()
				all = append(all, l.Status().TargetFails)
			})
		}()
		pulls := proxy.New(l.table, proxy.Config{})
		for range 6 {
			w := httptest.NewRecorder()
			pulls.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/v2/system/deckhouse/app/manifests/x?ns=registry.d8-system.svc:5001", nil))
			if w.Code != http.StatusServiceUnavailable {
				t.Fatalf("%d %s", w.Code, w.Body)
			}
			<-time.After(15 * time.Second)
		}
		<-time.After(time.Minute)
		if got := reports(); len(got) != 1 || !strings.HasPrefix(got[0], target.String()+": pulls from it fail: ") {
			t.Errorf("they fail: %q", got)
		}
		<-time.After(15 * time.Minute) // nobody asks
		if got := reports(); len(got) != 2 || got[1] != "" {
			t.Errorf("it is not known any more: %q", got)
		}
		stop()
		<-ended
	})
}
