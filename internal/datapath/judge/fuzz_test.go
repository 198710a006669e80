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

// FuzzAllowance: whatever a registry says of its limits is a number of requests and an
// hour at most.
func FuzzAllowance(f *testing.F) {
	f.Add("100;w=21600", "98;w=21600", "1800000042", `"default";r=50;t=30`, "7", true)
	f.Add("10, 10;w=1", "0", "7", `"a";r=5, "b";r=2;t=1`, "", false)
	f.Add("many", "-1", "999999999999999999", `;r=;t=`, "99999999999999999999", true)
	now := time.Unix(1_800_000_000, 0)
	f.Fuzz(func(t *testing.T, of, left, reset, policies, retry string, limited bool) {
		resp := &http.Response{StatusCode: http.StatusOK, Header: http.Header{}}
		if limited {
			resp.StatusCode = http.StatusTooManyRequests
		}
		for name, said := range map[string]string{
			"RateLimit-Limit": of, "RateLimit-Remaining": left, "RateLimit-Reset": reset, "RateLimit": policies, "Retry-After": retry,
		} {
			resp.Header.Set(name, said)
		}
		got := AllowanceOf(resp, now)
		if got == (Allowance{}) {
			return
		}
		if wait := got.Until.Sub(now); got.Left < 0 || got.Of < 0 || wait < time.Second || wait > mostWait || limited && !got.Low(now) {
			t.Fatalf("it is %s, low %t", got, got.Low(now))
		}
	})
}
