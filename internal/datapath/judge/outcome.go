package judge

import (
	"errors"
	"fmt"
	"mime"
	"net/http"
	"net/url"

	"github.com/d8-registry/registry/internal/datapath/regauth"
)

// This table is what an upstream's answer means, and what the data path does then
// (failover and failures in package proxy).
//
//	it answers           outcome        another is asked  if nobody serves, the client gets
//	200, 206, 304, 412,  relayed        no                that answer
//	416
//	then the body stops  (resume)       yes, it is last   a body that breaks off
//	404                  not_found      yes               404, if all said 404
//	401, 402, 403        refused        yes               502: it is between us and them
//	429                  rate_limited   yes               429 and Retry-After, if all said 429
//	other 4xx but 408    rejected       yes               that answer, if the others said 404
//	408, 5xx, 1xx, 3xx,  server_error   yes               502
//	other 2xx
//	another digest       wrong_digest   yes               502
//	a web page, or what  server_error   yes               502
//	is no manifest
//	407, or nothing      no_connection  yes, it is last   502
//	in time                             for a while
//	token server:
//	  401, 403           refused        yes               502
//	  others, 429 too    no_connection  as above          502
//
// Mixed answers give 502, whatever is among them: 429 too. Only 404 and "other 4xx"
// may be mixed. An upstream that may not be asked, or has no repository for the name,
// counts as 404. The Retry-After is the first one that an upstream sent.

// Outcome is what became of asking one upstream. Its values are labels of a
// metric.
type Outcome string

// The outcomes of the table.
const (
	Relayed      Outcome = "relayed"
	NotFound     Outcome = "not_found"
	Rejected     Outcome = "rejected"      // the upstream does not do this
	Refused      Outcome = "refused"       // us, whatever we showed
	RateLimited  Outcome = "rate_limited"  // 429
	ServerError  Outcome = "server_error"  // or an answer that makes no sense
	NoConnection Outcome = "no_connection" // dial, TLS, silence
	WrongDigest  Outcome = "wrong_digest"
)

// OfStatus says what an answer means before its body is read, and the reason if it is
// not to be relayed. asked is the registry that we wanted to ask, which may have sent
// us elsewhere: a refusal is blamed on who refused, and on what they were shown.
func OfStatus(resp *http.Response, asked *url.URL) (Outcome, string) {
	code := resp.StatusCode
	switch {
	case code == http.StatusNotFound:
		return NotFound, after(resp, asked) + resp.Status
	case code == http.StatusUnauthorized, code == http.StatusForbidden, code == http.StatusPaymentRequired:
		return Refused, refusal(resp, asked)
	case code == http.StatusTooManyRequests:
		return RateLimited, after(resp, asked) + resp.Status
	case code == http.StatusProxyAuthRequired:
		// From the HTTP proxy before the registry. Relayed, containerd would take
		// us for one.
		return NoConnection, "the HTTP proxy on the way refused: " + resp.Status
	case code == http.StatusPreconditionFailed, code == http.StatusRequestedRangeNotSatisfiable, code == http.StatusNotModified,
		code == http.StatusOK, code == http.StatusPartialContent:
		return Relayed, ""
	case code >= 400 && code < 500 && code != http.StatusRequestTimeout:
		return Rejected, after(resp, asked) + resp.Status
	case code >= 200 && code < 300:
		return ServerError, after(resp, asked) + "answered " + resp.Status + ", which is no answer to a pull"
	default:
		return ServerError, after(resp, asked) + resp.Status
	}
}

// refusal says who refused, and what they had been shown.
func refusal(resp *http.Response, asked *url.URL) string {
	status := fmt.Sprintf("%d %s", resp.StatusCode, http.StatusText(resp.StatusCode))
	switch {
	case sentAway(resp, asked):
		return fmt.Sprintf("%s, to which %s redirected, refused us: %s", resp.Request.URL.Host, asked.Host, status)
	case regauth.Shown(resp.Request):
		return "refused the credentials: " + status
	default:
		return "refused us although we had no credentials to show: " + status
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

// OfError says what it means that there was no answer of the registry.
func OfError(err error) Outcome {
	var refused *regauth.RefusedError
	if errors.As(err, &refused) {
		return Refused
	}
	return NoConnection
}

// WebPage reports whether an answer is a page for people. A host that is no registry
// any more, or something in front of it, answers everything with 200 and a page.
func WebPage(header http.Header) bool {
	kind := mediaType(header)
	return kind == "text/html" || kind == "application/xhtml+xml"
}

// mediaType is the Content-Type without parameters; empty if there is none.
func mediaType(header http.Header) string {
	kind, _, err := mime.ParseMediaType(header.Get("Content-Type"))
	if err != nil {
		return ""
	}
	return kind
}
