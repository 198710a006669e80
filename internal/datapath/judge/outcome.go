package judge

import (
	"crypto/tls"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/d8-registry/registry/internal/datapath/regauth"
)

// This table is what an upstream's answer means, and what the data path does then
// (failover and failures in package fetch; a test of package proxy has a registry for each row).
//
//	it answers                     outcome            another is asked        the client gets
//	200, 206                       relayed            no                      that answer
//	304, 412, 416 to a header      relayed            no                      that answer
//	  that asks for it
//	then the body stops            (resume)           yes, it is last         a body that breaks off
//	then its digest is wrong       wrong_digest       by the next pulls       a body that breaks off
//	408, 5xx                       server_error       yes                     503 and Retry-After
//	nothing in time, or no         no_connection      yes, it is last         503 and Retry-After
//	  connection                                      for a while
//	429                            rate_limited       yes                     429 and Retry-After
//	401, 402, 403                  refused            yes                     502: between us and them
//	  of whom it redirects to      refused_elsewhere  yes                     502
//	another digest                 wrong_digest       yes                     502
//	what is no manifest or list,   nonsense           yes                     502
//	  a web page
//	1xx, 3xx, other 2xx, 501,      nonsense           yes                     502
//	  505, 511
//	206, 304, 412, 416 unasked     nonsense           yes                     502
//	407, a certificate that we     blocked            yes, it is last         502
//	  do not believe, HTTP/2 only,                    for a while
//	  a way that we do not go
//	other 4xx                      rejected           yes                     that answer
//	404                            not_found          yes                     404
//	its token server:
//	  401, 403                     refused            yes                     502
//	  429                          rate_limited       yes                     429 and Retry-After
//	  408, 5xx                     server_error       yes                     503 and Retry-After
//	  others                       nonsense           yes                     502
//
// The last column is for a pull that nobody serves. Where upstreams differ, the row that
// stands first counts: as long as one of them may serve a pull that is tried again, the
// client is told to try again. So a limit beside a 404 is 429, and 404 is said only if
// all said it: containerd goes to its next host for each of these, and reports an image as
// missing for 404. The same host it asks again for 408 and 429, and from 2.x on, where it is
// the last one, for 500, 503 and 504. An upstream that may not be
// asked, or has no repository for the name, counts as 404.
//
// After 429, and after 503 with Retry-After, an upstream is asked last, and for a while its
// answer is what it said, without a request: Limits in package routes.

// Outcome is what became of asking one upstream. Its values are labels of a
// metric.
type Outcome string

// The outcomes of the table.
const (
	Relayed          Outcome = "relayed"
	NotFound         Outcome = "not_found"
	Rejected         Outcome = "rejected"          // the upstream does not do this
	Refused          Outcome = "refused"           // us, whatever we showed
	RefusedElsewhere Outcome = "refused_elsewhere" // by whom the upstream redirected to
	RateLimited      Outcome = "rate_limited"
	ServerError      Outcome = "server_error"  // for now, as it says
	NoConnection     Outcome = "no_connection" // dial, TLS, silence
	Blocked          Outcome = "blocked"       // on the way to it, until somebody changes something
	Nonsense         Outcome = "nonsense"      // no answer of a registry
	WrongDigest      Outcome = "wrong_digest"
)

// Decisive is the outcome that says what the client gets when nobody served.
func Decisive(all []Outcome) Outcome {
	first := []Outcome{
		ServerError, NoConnection, RateLimited, Refused, RefusedElsewhere, WrongDigest, Nonsense, Blocked, Rejected, NotFound,
	}
	for _, o := range first {
		if slices.Contains(all, o) {
			return o
		}
	}
	return Nonsense
}

// Status is what the client gets for a decisive outcome. That of Rejected is the
// upstream's own.
func (o Outcome) Status() int {
	switch {
	case o.Temporary():
		return http.StatusServiceUnavailable
	case o == RateLimited:
		return http.StatusTooManyRequests
	case o == NotFound:
		return http.StatusNotFound
	default:
		return http.StatusBadGateway
	}
}

// Temporary reports whether the same may be served when it is asked for again.
func (o Outcome) Temporary() bool { return o == ServerError || o == NoConnection }

// Refusal reports whether somebody refused us.
func (o Outcome) Refusal() bool { return o == Refused || o == RefusedElsewhere }

// OfRegistry reports whether an outcome that is no success is about the registry, and
// not only about what it was asked for.
func (o Outcome) OfRegistry() bool { return o != NotFound && o != Rejected && o != WrongDigest }

// Reached reports whether the registry answered at all.
func (o Outcome) Reached() bool { return o != NoConnection && o != Blocked }

// OfStatus says what an answer means before its body is read, and the reason if it is
// not to be relayed. asked is the registry that we wanted to ask, which may have sent
// us elsewhere: a refusal is blamed on who refused, and on what they were shown.
func OfStatus(resp *http.Response, asked *url.URL) (Outcome, string) {
	code := resp.StatusCode
	status := after(resp, asked) + resp.Status
	switch code {
	case http.StatusOK:
		return Relayed, ""
	case http.StatusPartialContent, http.StatusNotModified, http.StatusPreconditionFailed, http.StatusRequestedRangeNotSatisfiable:
		if reason := unasked(resp); reason != "" {
			return Nonsense, after(resp, asked) + reason
		}
		return Relayed, ""
	case http.StatusNotFound:
		return NotFound, status
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusPaymentRequired:
		return refusal(resp, asked)
	case http.StatusTooManyRequests:
		return RateLimited, status
	case http.StatusProxyAuthRequired:
		// From the HTTP proxy before the registry. Relayed, containerd would take
		// us for one.
		return Blocked, "the HTTP proxy on the way refused: " + resp.Status
	case http.StatusNotImplemented, http.StatusHTTPVersionNotSupported, http.StatusNetworkAuthenticationRequired:
		return Nonsense, status
	}
	switch {
	case Passing(code):
		return ServerError, status
	case code >= 400 && code < 500:
		return Rejected, status
	default:
		return Nonsense, after(resp, asked) + "answered " + resp.Status + ", which is no answer to a pull"
	}
}

// Passing reports whether a status says that its server cannot answer for now.
func Passing(code int) bool { return code >= 500 || code == http.StatusRequestTimeout }

// unasked says why an answer does not fit the request that it is an answer to.
func unasked(resp *http.Response) string {
	var asks []string
	switch resp.StatusCode {
	case http.StatusPartialContent:
		return otherPart(resp)
	case http.StatusNotModified:
		asks = []string{"If-None-Match", "If-Modified-Since"}
	case http.StatusPreconditionFailed:
		asks = []string{"If-Match", "If-Unmodified-Since", "If-None-Match"}
	case http.StatusRequestedRangeNotSatisfiable:
		asks = []string{"Range"}
	}
	if slices.ContainsFunc(asks, func(name string) bool { return resp.Request != nil && resp.Request.Header.Get(name) != "" }) {
		return ""
	}
	return "answered " + resp.Status + ", which nobody asked for"
}

// refusal says who refused, and what they had been shown.
func refusal(resp *http.Response, asked *url.URL) (Outcome, string) {
	status := fmt.Sprintf("%d %s", resp.StatusCode, http.StatusText(resp.StatusCode))
	switch {
	case sentAway(resp, asked):
		return RefusedElsewhere, fmt.Sprintf("%s, to which %s redirected, refused us: %s", resp.Request.URL.Host, asked.Host, status)
	case regauth.Shown(resp.Request):
		return Refused, "refused the credentials: " + status
	default:
		return Refused, "refused us although we had no credentials to show: " + status
	}
}

// after names the server that answered if it is not the one that was asked.
func after(resp *http.Response, asked *url.URL) string {
	if sentAway(resp, asked) {
		return "redirected to " + resp.Request.URL.Host + ": "
	}
	return ""
}

func sentAway(resp *http.Response, asked *url.URL) bool {
	return resp.Request != nil && resp.Request.URL != nil && asked != nil && !regauth.SameServer(asked, resp.Request.URL)
}

// OfError says what it means that there was no answer of the registry, and why there
// was none.
func OfError(err error) (Outcome, string) {
	var known *Error
	var refused *regauth.RefusedError
	var noToken *regauth.TokenError
	var untrusted *tls.CertificateVerificationError
	var noTLS tls.RecordHeaderError
	text := err.Error()
	switch {
	case errors.As(err, &known):
		return known.Outcome, text
	case errors.As(err, &refused):
		return Refused, text
	case errors.As(err, &noToken) && noToken.Status == http.StatusTooManyRequests:
		return RateLimited, text
	case errors.As(err, &noToken) && Passing(noToken.Status):
		return ServerError, text
	case errors.As(err, &noToken):
		return Nonsense, text
	case onlyHTTP2(text):
		return Blocked, "it speaks HTTP/2 only, and HTTP/1.1 is needed: " + text
	case errors.As(err, &untrusted), errors.As(err, &noTLS), errors.Is(err, regauth.ErrForbiddenHop):
		return Blocked, text
	default:
		return NoConnection, text
	}
}

// onlyHTTP2 knows a server that refused HTTP/1.1 with TLS, or answered with a frame of
// HTTP/2. net/http has no names for these errors.
func onlyHTTP2(text string) bool {
	return strings.Contains(text, "tls: no application protocol") || strings.Contains(text, `malformed HTTP response "\x00\x00`)
}

// mostWait bounds what a server may ask clients to wait.
const mostWait = time.Hour

// Wait is what the Retry-After of an answer says, in seconds or as a date; 0 for
// nothing that can be used. It is at least a second and at most an hour.
func Wait(header http.Header, now time.Time) time.Duration {
	said := strings.TrimSpace(header.Get("Retry-After"))
	if seconds, err := strconv.ParseUint(said, 10, 64); err == nil || errors.Is(err, strconv.ErrRange) {
		return time.Duration(min(max(seconds, 1), uint64(mostWait/time.Second))) * time.Second
	}
	at, err := http.ParseTime(said)
	if err != nil {
		return 0
	}
	return min(max(at.Sub(now), time.Second), mostWait)
}

// WaitOf is Wait for an error of OfError.
func WaitOf(err error, now time.Time) time.Duration {
	var noToken *regauth.TokenError
	if errors.As(err, &noToken) {
		return Wait(noToken.Header, now)
	}
	return 0
}

// WebPage reports whether an answer is a page for people. A host that is no registry
// any more, or something in front of it, answers everything with 200 and a page.
func WebPage(header http.Header) bool {
	kind := mediaType(header)
	return kind == "text/html" || kind == "application/xhtml+xml"
}

// Page reports whether bytes begin as a page does.
func Page(data []byte) bool { return strings.HasPrefix(http.DetectContentType(data), "text/html") }

// Text reports whether a header leaves open that its body is a page.
func Text(header http.Header) bool {
	kind := mediaType(header)
	return kind == "" || strings.HasPrefix(kind, "text/") || kind == "application/xhtml+xml"
}

// mediaType is the Content-Type without parameters; empty if there is none.
func mediaType(header http.Header) string {
	kind, _, err := mime.ParseMediaType(header.Get("Content-Type"))
	if err != nil {
		return ""
	}
	return kind
}
