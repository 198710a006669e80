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

// TestWhoseBytesWereWrong: of a layer that came in two pieces a registry is passed over for
// the next pull if both were its own: from whatever server stands behind its name, and also
// with new credentials in between. Where two gave of it nobody knows, and neither is.
func TestWhoseBytesWereWrong(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct{ renewed, other bool }{
		"two servers of a name":     {},
		"one with new credentials":  {renewed: true},
		"of one name, then another": {other: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, b, img := pair(t, testregistry.Options{})
			digest, content := blob(t, img)
			var s *system
			var second, good upstream.Upstream
			var asked atomic.Int64
			first := host(t, func(w http.ResponseWriter, r *http.Request) {
				if asked.Add(1) > 1 { // another server of the name, which is right
					http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(content))
					return
				}
				w.Header().Set("Content-Length", strconv.Itoa(len(content)))
				_, _ = w.Write(bytes.Repeat([]byte("x"), 1000))
				_ = http.NewResponseController(w).Flush()
				if row.renewed {
					s.swap(2, second, good)
				}
				panic(http.ErrAbortHandler)
			})
			first.Provided = true
			second, good = first, b.Upstream("team/b")
			first.Credentials = upstream.Credentials{Username: "first", Password: "1"}
			second.Credentials = upstream.Credentials{Username: "second", Password: "2"}
			s = start(t, Config{}, first, good)
			if !row.other {
				b.SetFaults(testregistry.Faults{Status: http.StatusNotFound})
			}
			if got := s.get(blobPath(digest)); got.status != http.StatusOK || got.err == nil {
				t.Fatalf("%d, %d bytes, error %v; want a body that breaks off", got.status, len(got.body), got.err)
			}
			if two := asked.Load() == 2; two == row.other {
				t.Errorf("the first gave %d pieces", asked.Load())
			}
			route, _ := s.table.Lookup(fixedHost, repo)
			for i, want := range []bool{!row.other, false} {
				if got := route.Targets[i].Corrupt.Has(time.Now(), digest); got != want {
					t.Errorf("upstream %d is passed over: %t, want %t", i+1, got, want)
				}
			}
			b.SetFaults(testregistry.Faults{})
			wantBlob(t, s.get(blobPath(digest)), content)
		})
	}
}
