package judge

import (
	"net/http"
	"testing"
	"time"
)

// FuzzContentRange: what is taken for a part is one, and fits what was asked for.
func FuzzContentRange(f *testing.F) {
	f.Add("bytes=5-9", "bytes 5-9/100", int64(5))
	f.Add("bytes=-9", "bytes 5-9/*", int64(-1))
	f.Add("bytes=0-1,5-6", "", int64(3))
	f.Fuzz(func(t *testing.T, asked, said string, length int64) {
		resp := &http.Response{
			StatusCode: http.StatusPartialContent, ContentLength: length,
			Header: http.Header{"Content-Range": {said}}, Request: &http.Request{Header: http.Header{"Range": {asked}}},
		}
		part, ok := PartOf(resp)
		if ok && (part.At < 0 || part.End <= part.At || part.Total >= 0 && part.End > part.Total || length >= 0 && length != part.End-part.At) {
			t.Fatalf("%q is %+v", said, part)
		}
		if outcome, _ := OfStatus(resp, nil); outcome == Relayed && !ok {
			t.Fatalf("%q for %q is relayed", said, asked)
		}
	})
}

// FuzzRetryAfter: nothing makes a client wait for ever.
func FuzzRetryAfter(f *testing.F) {
	for _, seed := range []string{"7", "-1", "Tue, 01 Dec 2026 12:00:30 GMT", "99999999999999999999", "soon"} {
		f.Add(seed)
	}
	now := time.Date(2026, 12, 1, 12, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, said string) {
		if wait := Wait(http.Header{"Retry-After": {said}}, now); wait != 0 && (wait < time.Second || wait > mostWait) {
			t.Fatalf("%q is %s", said, wait)
		}
	})
}
