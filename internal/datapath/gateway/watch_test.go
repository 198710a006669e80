package gateway

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// After a restore of etcd a watch from the last version that was seen brings nothing,
// until the cluster has made as many changes again.
func TestEachWatchBeginsWithAList(t *testing.T) {
	t.Parallel()
	secret := func(version, content string) map[string]any {
		return map[string]any{
			"apiVersion": "v1", "kind": "Secret", "data": map[string][]byte{"content": []byte(content)},
			"metadata": map[string]any{"namespace": "n", "name": "s", "uid": "u", "resourceVersion": version},
		}
	}
	var mu sync.Mutex
	var asked []string
	watches := 0
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		w.Header().Set("Content-Type", "application/json")
		say := func(v any) { _ = json.NewEncoder(w).Encode(v) }
		q := r.URL.Query()
		switch {
		case q.Get("sendInitialEvents") != "": // an older API server
			w.WriteHeader(http.StatusUnprocessableEntity)
			say(map[string]any{"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 422, "reason": "Invalid"})
		case q.Get("watch") == "":
			asked = append(asked, "list "+q.Get("resourceVersion"))
			version := []string{"1000", "10", "10"}[watches]
			say(map[string]any{
				"apiVersion": "v1", "kind": "SecretList", "metadata": map[string]any{"resourceVersion": version},
				"items": []any{secret(version, "listed at "+version)},
			})
		default:
			asked = append(asked, "watch "+q.Get("resourceVersion"))
			if watches++; watches == 1 {
				say(map[string]any{"type": "MODIFIED", "object": secret("1001", "seen at 1001")})
				return
			}
			mu.Unlock()
			<-r.Context().Done()
			mu.Lock()
		}
	}))
	t.Cleanup(api.Close)
	client, err := kubernetes.NewForConfig(&rest.Config{Host: api.URL})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	var seen []string
	watchSecret(ctx, client, "n", "s", func(data map[string][]byte) {
		if seen = append(seen, string(data["content"])); len(seen) == 3 {
			cancel()
		}
	})
	if want := []string{"listed at 1000", "seen at 1001", "listed at 10"}; !slices.Equal(seen, want) {
		t.Errorf("seen %q, want %q", seen, want)
	}
	mu.Lock()
	defer mu.Unlock()
	if want := []string{"list ", "watch 1000", "list "}; len(asked) < 3 || !slices.Equal(asked[:3], want) {
		t.Errorf("asked %q, want %q", asked, want)
	}
}
