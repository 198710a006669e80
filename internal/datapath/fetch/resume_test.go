package fetch

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/d8-registry/registry/internal/datapath/judge"
	"github.com/d8-registry/registry/internal/datapath/routes"
)

// A client that leaves while we wait is not waited for.
func TestBackoffEndsWithTheClient(t *testing.T) {
	t.Parallel()
	ctx, leave := context.WithCancel(t.Context())
	leave()
	b := &resumedBody{
		req:      (&http.Request{}).WithContext(ctx),
		exchange: &Exchange{Route: routes.Route{Targets: []*routes.Target{{}}}}, tried: 1, rounds: 4,
	}
	if begin := time.Now(); b.mayTryAgain() || time.Since(begin) > 2*time.Second {
		t.Errorf("waited %s for nobody", time.Since(begin))
	}
	b.rounds = 5
	if b.mayTryAgain() {
		t.Error("never enough")
	}
}

// TestWhatIsHeldBack: a store that ends a body before its last byte says that the digest is wrong. One
// that is silent there does not, nor does a registry, nor one that ends it elsewhere.
func TestWhatIsHeldBack(t *testing.T) {
	t.Parallel()
	r := storeAndRegistry(t)
	store, registry := r.Targets[0], r.Targets[1]
	silent := fmt.Errorf("read: %w", errNoAnswer)
	for name, tc := range map[string]struct {
		from *routes.Target
		part judge.Part
		why  error
		want bool
	}{
		"ended":         {store, judge.Part{At: 99, End: 100, Total: 100}, io.ErrUnexpectedEOF, true},
		"silent":        {store, judge.Part{At: 99, End: 100, Total: 100}, silent, false},
		"by a registry": {registry, judge.Part{At: 99, End: 100, Total: 100}, io.ErrUnexpectedEOF, false},
		"sooner":        {store, judge.Part{At: 98, End: 100, Total: 100}, io.ErrUnexpectedEOF, false},
		"nothing":       {store, judge.Part{At: 0, End: 1, Total: 1}, io.ErrUnexpectedEOF, false},
	} {
		b := &resumedBody{part: tc.part, exchange: &Exchange{Served: tc.from}}
		if got := b.heldBack(tc.why); got != tc.want {
			t.Errorf("%s: %t", name, got)
		}
	}
}

func TestOtherBytesAreNotJoined(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name   string
		wanted judge.Part
		header string
		status int
		length int64
		ok     bool
	}{
		{"fits", judge.Part{At: 10, End: 100, Total: 100}, "bytes 10-99/100", 206, 90, true},
		{"total unknown", judge.Part{At: 10, End: 100, Total: 100}, "bytes 10-99/*", 206, 90, true},
		{"other total", judge.Part{At: 10, End: 100, Total: 100}, "bytes 10-99/101", 206, 90, false},
		{"starts later", judge.Part{At: 10, End: 100, Total: 100}, "bytes 11-99/100", 206, 89, false},
		{"whole, other size", judge.Part{At: 10, End: 100, Total: 100}, "", 200, 99, false},
		{"no range in it", judge.Part{At: 10, End: 100, Total: 100}, "bytes */100", 206, 0, false},
		{"backwards", judge.Part{At: 10, End: 100, Total: 100}, "bytes 10-9/100", 206, 0, false},
		{"not there any more", judge.Part{At: 10, End: 100, Total: 100}, "", 404, 0, false},
	} {
		resp := &http.Response{StatusCode: tc.status, ContentLength: tc.length, Header: http.Header{}, Body: http.NoBody}
		if tc.header != "" {
			resp.Header.Set("Content-Range", tc.header)
		}
		b := &resumedBody{part: tc.wanted, exchange: &Exchange{Served: &routes.Target{}}}
		if err := b.takeOver(resp); (err == nil) != tc.ok {
			t.Errorf("%s: %v", tc.name, err)
		}
	}
}
