package watch

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
)

// server answers as an API server does that is put back to a backup between two
// watches. The third watch stays open.
type server struct {
	mu      sync.Mutex
	asked   []string // each list, and each watch with its version
	watches int
}

func thing(name, version, content string) map[string]any {
	return map[string]any{
		"apiVersion": "test/v1", "kind": "Thing", "content": content,
		"metadata": map[string]any{"name": name, "uid": "u", "resourceVersion": version},
	}
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	say := func(v any) { _ = json.NewEncoder(w).Encode(v) } // a client that is gone hears nothing
	q := r.URL.Query()
	if q.Get("watch") == "" {
		s.asked = append(s.asked, "list "+q.Get("resourceVersion"))
		version := []string{"1000", "10", "20"}[s.watches]
		say(map[string]any{
			"apiVersion": "test/v1", "kind": "ThingList", "metadata": map[string]any{"resourceVersion": version},
			"items": []any{thing("a", version, "listed at "+version)},
		})
		return
	}
	s.asked = append(s.asked, "watch "+q.Get("resourceVersion"))
	s.watches++
	switch s.watches {
	case 1:
		say(map[string]any{"type": "MODIFIED", "object": thing("a", "1001", "seen at 1001")})
	case 2:
		say(map[string]any{"type": "ERROR", "object": map[string]any{"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 410, "reason": "Expired"}})
	default:
		say(map[string]any{"type": "DELETED", "object": thing("a", "21", "")})
		if f, ok := w.(http.Flusher); ok {
			f.Flush()
		}
		s.mu.Unlock()
		<-r.Context().Done()
		s.mu.Lock()
	}
}

// A watch that went on from the last version that it saw would bring nothing after a
// restore of etcd, until the versions have grown that far again.
func TestEachWatchBeginsWithWhatIsThereNow(t *testing.T) {
	t.Parallel()
	s := &server{}
	api := httptest.NewServer(s)
	t.Cleanup(api.Close)
	kube, err := dynamic.NewForConfig(&rest.Config{Host: api.URL})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	var seen []string
	var last time.Time
	object := Object{Client: kube, Resource: schema.GroupVersionResource{Group: "test", Version: "v1", Resource: "things"}, Name: "a"}
	object.Run(ctx, slog.New(slog.DiscardHandler), func(o *unstructured.Unstructured, since time.Time) {
		if since.Before(last) {
			t.Error("what is seen later is older")
		}
		last = since
		if o == nil {
			seen = append(seen, "gone")
			cancel()
			return
		}
		seen = append(seen, fmt.Sprint(o.Object["content"]))
	})
	if want := []string{"listed at 1000", "seen at 1001", "listed at 10", "listed at 20", "gone"}; !slices.Equal(seen, want) {
		t.Errorf("seen %q, want %q", seen, want)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if want := []string{"list ", "watch 1000", "list ", "watch 10", "list ", "watch 20"}; !slices.Equal(s.asked, want) {
		t.Errorf("asked %q, want %q", s.asked, want)
	}
}
