package controller

import (
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"reflect"
	"strings"
	"sync"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/d8-registry/registry/internal/control/cluster"
	"github.com/d8-registry/registry/test/harness/fleet"
)

// asker sees what is asked for, and may answer itself or change what is asked.
type asker struct {
	http.RoundTripper
	mu     sync.Mutex
	pages  int // of Pods, after the first
	accept string
	gone   bool
}

func (a *asker) RoundTrip(req *http.Request) (*http.Response, error) {
	if strings.HasSuffix(req.URL.Path, "/pods") && req.URL.Query().Get("limit") != "" {
		if a.accept != "" {
			req = req.Clone(req.Context())
			req.Header.Set("Accept", a.accept)
		}
		if req.URL.Query().Get("continue") != "" {
			a.mu.Lock()
			a.pages++
			a.mu.Unlock()
			if a.gone {
				body := `{"kind":"Status","apiVersion":"v1","status":"Failure","message":"The provided continue parameter is too old","reason":"Expired","code":410}`
				return &http.Response{StatusCode: http.StatusGone, Status: "410 Gone", Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(strings.NewReader(body)), Request: req}, nil
			}
		}
	}
	return a.RoundTripper.RoundTrip(req)
}

// TestLiveListFromTheWire: of a real API server a live list in several pages is the same
// from the wire and typed; also where the answer is JSON, and where a page is gone.
func TestLiveListFromTheWire(t *testing.T) {
	t.Parallel()
	api := servers.TakeNew(t)
	var objects []client.Object
	fleet.Large(45, 7, func(o client.Object) {
		switch o.(type) {
		case *corev1.Pod, *appsv1.ReplicaSet:
			objects = append(objects, o)
		}
	})
	if err := api.Store(t.Context(), objects); err != nil {
		t.Fatal(err)
	}
	live := func(how *asker, wire bool) (*cluster.Inventory, error) {
		config := api.Config()
		config.Wrap(func(rt http.RoundTripper) http.RoundTripper {
			how.RoundTripper = rt
			return how
		})
		over, err := rest.HTTPClientFor(config)
		if err != nil {
			t.Fatal(err)
		}
		typed, err := client.New(config, client.Options{Scheme: api.Scheme(), HTTPClient: over})
		if err != nil {
			t.Fatal(err)
		}
		c := &cluster.Client{Live: typed, Log: slog.New(slog.DiscardHandler)}
		if wire {
			c.Raw = cluster.NewRaw(config, over, api.Scheme(), typed.RESTMapper())
		}
		return c.TakeLive(t.Context())
	}
	want, err := live(&asker{}, false)
	if err != nil || len(want.Pods) < 1200 || len(want.Makers) < 400 {
		t.Fatalf("typed it is %d Pods and %d others: %v", len(want.Pods), len(want.Makers), err)
	}
	for _, accept := range []string{"", "application/json"} {
		how := &asker{accept: accept}
		got, err := live(how, true)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got.Pods, want.Pods) || !reflect.DeepEqual(got.Makers, want.Makers) {
			t.Errorf("asked for %q there are %d Pods and %d others, typed %d and %d, or they differ", accept, len(got.Pods), len(got.Makers), len(want.Pods), len(want.Makers))
		}
		if how.pages != 2 {
			t.Errorf("asked for %q it took %d pages after the first", accept, how.pages)
		}
	}
	_, asTyped := live(&asker{gone: true}, false)
	_, gone := live(&asker{gone: true}, true)
	if !apierrors.IsResourceExpired(gone) || fmt.Sprint(gone) != fmt.Sprint(asTyped) {
		t.Errorf("of a page that is gone it says %v, typed %v", gone, asTyped)
	}
}
