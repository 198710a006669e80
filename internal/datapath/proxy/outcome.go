package proxy

import (
	"bytes"
	"context"
	"errors"
	"io"
	"mime"
	"net/http"
	"strings"

	"github.com/d8-registry/registry/internal/datapath/regauth"
)

// This file decides what an upstream's answer means, for pulls. The image check has
// problemOf in internal/control/precheck/registry.go.
//
//	it answers           outcome        another is asked  if nobody serves, the client gets
//	2xx, 304, 412, 416   relayed        no                that answer
//	then the body stops  (resume.go)    yes, it is last   a body that breaks off
//	404                  not_found      yes               404, if all said 404
//	401, 402, 403        refused        yes               502: they are our credentials
//	429                  rate_limited   yes               429 and Retry-After, if all said 429
//	other 4xx but 408    rejected       yes               that answer, if the others said 404
//	408, 5xx, 1xx, 3xx   server_error   yes               502
//	another digest       wrong_digest   yes               502
//	a web page           server_error   yes               502
//	407, or nothing      no_connection  yes, it is last   502
//	in time                             for a while
//	token server:
//	  401, 403           refused        yes               502
//	  others, 429 too    no_connection  as above          502
//
// Mixed answers give 502, whatever is among them: 429 too. Only 404 and "other 4xx"
// may be mixed. An upstream that may not be asked, or has no repository for the name,
// counts as 404. The Retry-After is the first one that an upstream sent.

// outcome is what became of asking one upstream. Its values are labels of a
// metric.
type outcome string

const (
	relayed       outcome = "relayed"
	notFoundThere outcome = "not_found"
	rejected      outcome = "rejected"      // the upstream does not do this
	refusedUs     outcome = "refused"       // our credentials
	rateLimited   outcome = "rate_limited"  // 429
	serverError   outcome = "server_error"  // or an answer that makes no sense
	noConnection  outcome = "no_connection" // dial, TLS, silence
	wrongDigest   outcome = "wrong_digest"
)

// outcomeOf says what an answer means, and the reason if it is not to be relayed.
func outcomeOf(resp *http.Response, pull Pull) (outcome, string) {
	code := resp.StatusCode
	switch {
	case code == http.StatusNotFound:
		return notFoundThere, resp.Status
	case code == http.StatusUnauthorized, code == http.StatusForbidden, code == http.StatusPaymentRequired:
		return refusedUs, "credentials refused: " + resp.Status
	case code == http.StatusTooManyRequests:
		return rateLimited, resp.Status
	case code == http.StatusProxyAuthRequired:
		// From the HTTP proxy before the registry. Relayed, containerd would take
		// us for one.
		return noConnection, "the HTTP proxy on the way refused: " + resp.Status
	case code == http.StatusPreconditionFailed, code == http.StatusRequestedRangeNotSatisfiable, code == http.StatusNotModified:
		return relayed, ""
	case code >= 200 && code < 300:
		return outcomeOfSuccess(resp, pull)
	case code >= 400 && code < 500 && code != http.StatusRequestTimeout:
		return rejected, resp.Status
	default:
		return serverError, resp.Status
	}
}

// outcomeOfSuccess checks an answer that claims to be good.
func outcomeOfSuccess(resp *http.Response, pull Pull) (outcome, string) {
	said := resp.Header.Get("Docker-Content-Digest")
	if pull.byDigest() && pull.Kind != KindReferrers && digestPattern.MatchString(said) &&
		len(said) == len(pull.Reference) && said != pull.Reference {
		return wrongDigest, "answered with another digest"
	}
	if isWebPage(resp) && (said == "" || said != pull.Reference) {
		return serverError, "answered with a web page"
	}
	return relayed, ""
}

// outcomeOfError says what it means that there was no answer of the registry.
func outcomeOfError(err error) outcome {
	var refused *regauth.RefusedError
	if errors.As(err, &refused) {
		return refusedUs
	}
	return noConnection
}

// isWebPage reports whether an answer is a page for people. A host that is no
// registry any more, or something in front of it, answers everything with 200
// and a page.
func isWebPage(resp *http.Response) bool {
	kind, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	return err == nil && (kind == "text/html" || kind == "application/xhtml+xml")
}

// failure is why one upstream did not serve.
type failure struct {
	target  *target
	outcome outcome
	reason  string
	resp    *http.Response // with its body in memory; nil when there was no answer
}

// keepAnswer reads the small body of an answer that may be relayed later.
func (f *failure) keepAnswer(resp *http.Response, req *http.Request) {
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxErrorBody))
	_ = resp.Body.Close()
	if err != nil {
		data = nil
	}
	if said := firstError(data); said != "" {
		f.reason += " (" + said + ")"
	}
	if at := resp.Request.URL.Host; at != req.URL.Host {
		f.reason = "redirected to " + at + ": " + f.reason
	}
	resp.Body = io.NopCloser(bytes.NewReader(data))
	resp.Request = req
	f.resp = resp
}

type failures []failure

// answer is what the client gets when no upstream served: the upstreams' own 404
// or other 4xx if all said one of these, else an error that names each upstream.
func (all failures) answer(req *http.Request, x *exchange) (*http.Response, error) {
	count := map[outcome]int{}
	for _, f := range all {
		count[f.outcome]++
	}
	if count[notFoundThere]+count[rejected] < len(all) || len(all) == 0 {
		return nil, &unservedError{failures: all}
	}
	want := notFoundThere
	if count[rejected] > 0 {
		want = rejected
	}
	x.served = x.route.targets[0]
	for _, f := range all {
		if f.outcome == want && f.resp != nil {
			x.served = f.target
			x.record.upstream = f.target.upstream.Host
			return f.resp, nil
		}
	}
	return &http.Response{
		StatusCode: http.StatusNotFound, Status: "404 Not Found",
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{}, Body: http.NoBody, Request: req,
	}, nil
}

// unservedError says for each upstream why it did not serve.
type unservedError struct{ failures failures }

func (e *unservedError) Error() string {
	var parts []string
	for _, f := range e.failures {
		parts = append(parts, f.target.upstream.Host+": "+f.reason)
	}
	return strings.Join(parts, "; ")
}

// allRateLimited reports whether every upstream said 429, and the Retry-After
// to relay then.
func (e *unservedError) allRateLimited() (after string, all bool) {
	for _, f := range e.failures {
		if f.outcome != rateLimited {
			return "", false
		}
		if after == "" && f.resp != nil {
			after = f.resp.Header.Get("Retry-After")
		}
	}
	return after, len(e.failures) > 0
}

// noUpstream answers when no upstream served: 429 if that is what all said,
// else 502. Never 401 or 403: those would blame the client.
func noUpstream(w http.ResponseWriter, r *http.Request, err error) {
	rec := recordFrom(r.Context())
	rec.err = err
	if errors.Is(r.Context().Err(), context.Canceled) {
		rec.status = statusClientGone
		return
	}
	status, code := http.StatusBadGateway, CodeUnavailable
	var detail []map[string]string
	var unserved *unservedError
	if errors.As(err, &unserved) {
		if after, all := unserved.allRateLimited(); all {
			status, code = http.StatusTooManyRequests, CodeTooManyRequests
			if after != "" {
				w.Header().Set("Retry-After", after)
			}
		}
		for _, f := range unserved.failures {
			detail = append(detail, map[string]string{"upstream": f.target.upstream.Host, "reason": f.reason})
		}
	}
	entry := errorEntry{Code: code, Message: "no upstream could serve this: " + err.Error()}
	if detail != nil { // in an interface it would be shown as null
		entry.Detail = detail
	}
	writeBody(w, r, status, errorBody{Errors: []errorEntry{entry}})
}
