package judge

import (
	"fmt"
	"net/http"
	"net/url"
	"testing"
	"time"
)

// TestOfStatus: what is not in it is tried with a registry by the users of OfStatus.
func TestOfStatus(t *testing.T) {
	t.Parallel()
	asked := &url.URL{Scheme: "https", Host: "r.example.com"}
	for _, tc := range []struct {
		status int
		at     string
		want   Outcome
		reason string
	}{
		{200, "", Relayed, ""},
		{206, "", Nonsense, "answered with a part, and the whole was asked for"},
		{304, "", Nonsense, "answered 304 Not Modified, which nobody asked for"},
		{412, "", Nonsense, "answered 412 Precondition Failed, which nobody asked for"},
		{416, "", Nonsense, "answered 416 Requested Range Not Satisfiable, which nobody asked for"},
		{201, "", Nonsense, "answered 201 Created, which is no answer to a pull"},
		{204, "", Nonsense, "answered 204 No Content, which is no answer to a pull"},
		{400, "", Rejected, "400 Bad Request"},
		{401, "", Refused, "refused us although we had no credentials to show: 401 Unauthorized"},
		{403, "cdn.example.com", RefusedElsewhere, "cdn.example.com, to which r.example.com redirected, refused us: 403 Forbidden"},
		{404, "cdn.example.com", NotFound, "redirected to cdn.example.com: 404 Not Found"},
		{407, "", Blocked, "the HTTP proxy on the way refused: 407 Proxy Authentication Required"},
		{408, "", ServerError, "408 Request Timeout"}, {429, "", RateLimited, "429 Too Many Requests"}, {503, "", ServerError, "503 Service Unavailable"},
		{501, "", Nonsense, "501 Not Implemented"}, {521, "", ServerError, "521 "},
		{302, "", Nonsense, "answered 302 Found, which is no answer to a pull"},
	} {
		at := *asked
		if tc.at != "" {
			at.Host = tc.at
		}
		resp := &http.Response{
			StatusCode: tc.status, Status: fmt.Sprintf("%d %s", tc.status, http.StatusText(tc.status)),
			Request: (&http.Request{URL: &at}).WithContext(t.Context()),
		}
		if got, reason := OfStatus(resp, asked); got != tc.want || reason != tc.reason {
			t.Errorf("%d: %s %q, want %s %q", tc.status, got, reason, tc.want, tc.reason)
		}
	}
}

// TestPartsThatWereAskedFor: what a 206 says of itself, beside what was asked for.
func TestPartsThatWereAskedFor(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		asked, said string
		length      int64
		ok          bool
	}{
		{"bytes=0-9", "bytes 0-9/100", 10, true}, {"bytes=0-9", "bytes 0-9/*", -1, true},
		{"bytes=0-9", "bytes 0-4/100", 5, true}, // less is allowed
		{"bytes=10-", "bytes 10-99/100", 90, true}, {"bytes=10-", "bytes 10-49/100", 40, true},
		{"bytes=-10", "bytes 90-99/100", 10, true}, {"bytes=-200", "bytes 0-99/100", 100, true}, {"bytes=-10", "bytes 90-99/*", 10, true},
		{"bytes=0-1,5-6", "", 40, false}, {"bytes=0-1,5-6", "bytes 0-1/100", 2, true},
		{"items=0-1", "bytes 0-1/100", 2, true},
		{"", "bytes 0-9/100", 10, false}, {"bytes=0-9", "", 10, false}, {"bytes=0-9", "bytes 9-0/100", -1, false},
		{"bytes=0-9", "bytes 1-9/100", 9, false}, {"bytes=0-9", "bytes 0-10/100", 11, false}, {"bytes=10-", "bytes 0-99/100", 100, false},
		{"bytes=-10", "bytes 0-9/100", 10, false}, {"bytes=0-9", "bytes 0-9/5", 10, false}, {"bytes=0-9", "bytes 0-9/100", 11, false},
	} {
		resp := &http.Response{
			StatusCode: 206, Status: "206 Partial Content", ContentLength: tc.length,
			Header: http.Header{"Content-Range": {tc.said}}, Request: &http.Request{Header: http.Header{"Range": {tc.asked}}},
		}
		if outcome, reason := OfStatus(resp, nil); (outcome == Relayed) != tc.ok {
			t.Errorf("%q for %q: %s %q", tc.said, tc.asked, outcome, reason)
		}
	}
}

func TestWait(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 12, 1, 12, 0, 0, 0, time.UTC)
	for said, want := range map[string]time.Duration{
		"": 0, "soon": 0, "-5": 0, "1.5": 0, "0": time.Second, " 7 ": 7 * time.Second, "3600": time.Hour,
		"7200": time.Hour, "99999999999999999999999": time.Hour, "7\r\nX: y": 0,
		"Tue, 01 Dec 2026 12:00:30 GMT": 30 * time.Second, "Tue, 01 Dec 2026 11:00:00 GMT": time.Second,
		"Wed, 01 Dec 2027 12:00:00 GMT": time.Hour,
	} {
		if got := Wait(http.Header{"Retry-After": {said}}, now); got != want {
			t.Errorf("%q: %s, want %s", said, got, want)
		}
	}
}

// TestDecisive: every outcome has a place, and what may still serve goes first.
func TestDecisive(t *testing.T) {
	t.Parallel()
	for _, o := range []Outcome{NotFound, Rejected, Refused, RefusedElsewhere, RateLimited, ServerError, NoConnection, Blocked, Nonsense, WrongDigest} {
		if got := Decisive([]Outcome{NotFound, o, NotFound}); got != o {
			t.Errorf("%s beside 404: %s", o, got)
		}
		if got := Decisive([]Outcome{o, ServerError}); got != ServerError {
			t.Errorf("%s beside a passing failure: %s", o, got)
		}
	}
	if got := Decisive(nil); got.Status() != http.StatusBadGateway {
		t.Errorf("nobody was asked: %s", got)
	}
}
