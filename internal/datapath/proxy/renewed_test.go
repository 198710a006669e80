package proxy

import (
	"bytes"
	"net/http"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/d8-registry/registry/internal/upstream"
	"github.com/d8-registry/registry/test/harness/testregistry"
)

// TestALayerOutlivesItsCredentials: those that were given for a while end in the middle of
// a layer, and the rest comes with those that follow, at once or a moment later.
func TestALayerOutlivesItsCredentials(t *testing.T) {
	t.Parallel()
	_, _, img := pair(t, testregistry.Options{})
	digest, content := blob(t, img)
	for name, after := range map[string]time.Duration{"at once": 0, "a moment later": 500 * time.Millisecond} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var s *system
			var second upstream.Upstream
			var ended atomic.Bool
			first := host(t, func(w http.ResponseWriter, r *http.Request) {
				user, _, _ := r.BasicAuth()
				switch {
				case user == "second", user == "first" && !ended.Load() && r.Header.Get("Range") == "":
				default:
					w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
					w.WriteHeader(http.StatusUnauthorized)
					return
				}
				if user == "second" {
					http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(content))
					return
				}
				w.Header().Set("Content-Length", strconv.Itoa(len(content)))
				_, _ = w.Write(content[:1000])
				_ = http.NewResponseController(w).Flush()
				ended.Store(true)
				if after == 0 {
					s.swap(2, second)
				} else {
					time.AfterFunc(after, func() { s.swap(2, second) })
				}
				panic(http.ErrAbortHandler)
			})
			first.Provided = true
			second = first
			first.Credentials = upstream.Credentials{Username: "first", Password: "1"}
			second.Credentials = upstream.Credentials{Username: "second", Password: "2"}
			s = start(t, Config{}, first)
			wantBlob(t, s.get(blobPath(digest)), content)
		})
	}
}
