package proxy

import (
	"bytes"
	"context"
	"errors"
	"io"
	"mime"
	"net/http"
	"strings"
)

// outcome is what became of asking one upstream.
type outcome string

const (
	relayed       outcome = "relayed"
	notFoundThere outcome = "not_found"
	rejected      outcome = "rejected"      // another 4xx: the upstream does not do this
	refusedUs     outcome = "refused"       // our credentials
	rateLimited   outcome = "rate_limited"  // 429
	serverError   outcome = "server_error"  // 5xx, or what makes no sense
	broken        outcome = "no_connection" // dial, TLS, silence
	wrongDigest   outcome = "wrong_digest"
)

// judge says whether an answer is one to relay, and if not why.
func judge(resp *http.Response, pull Pull) (outcome, string) {
	code := resp.StatusCode
	switch {
	case code == http.StatusNotFound:
		return notFoundThere, resp.Status
	case code == http.StatusUnauthorized, code == http.StatusForbidden, code == http.StatusPaymentRequired:
		return refusedUs, "credentials refused: " + resp.Status
	case code == http.StatusTooManyRequests:
		return rateLimited, resp.Status
	case code == http.StatusProxyAuthRequired:
		// Not the registry: the HTTP proxy before it, which containerd must not
		// take us for.
		return broken, "the HTTP proxy on the way refused: " + resp.Status
	case code == http.StatusPreconditionFailed, code == http.StatusRequestedRangeNotSatisfiable, code == http.StatusNotModified:
		return relayed, ""
	case code >= 200 && code < 300:
		return judgeGood(resp, pull)
	case code >= 400 && code < 500 && code != http.StatusRequestTimeout:
		return rejected, resp.Status
	default:
		return serverError, resp.Status
	}
}

// judgeGood looks at what says that it is good.
func judgeGood(resp *http.Response, pull Pull) (outcome, string) {
	said := resp.Header.Get("Docker-Content-Digest")
	if pull.byDigest() && pull.Kind != KindReferrers && digestPattern.MatchString(said) &&
		len(said) == len(pull.Reference) && said != pull.Reference {
		return wrongDigest, "answered with another digest"
	}
	if isPage(resp) && (said == "" || said != pull.Reference) {
		return serverError, "answered with a web page"
	}
	return relayed, ""
}

// isPage reports whether an answer is for people: a host that is no registry
// any more, or who stands before it, answers everything with 200 and a page.
func isPage(resp *http.Response) bool {
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

// keep reads the small body of an answer that may have to be relayed later.
func (f *failure) keep(resp *http.Response, req *http.Request) {
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

// answer is what the client gets when no upstream served: their own 404 or
// other refusal if all agree, else an error that names each.
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

// retry is the Retry-After to relay when every upstream said 429.
func (e *unservedError) retry() (after string, all bool) {
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
		if after, all := unserved.retry(); all {
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
	if detail != nil {
		entry.Detail = detail
	}
	writeBody(w, r, status, errorBody{Errors: []errorEntry{entry}})
}
