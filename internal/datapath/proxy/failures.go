package proxy

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strings"

	"github.com/d8-registry/registry/internal/datapath/judge"
)

// failure is why one upstream did not serve.
type failure struct {
	target  *target
	outcome judge.Outcome
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
	resp.Body = io.NopCloser(bytes.NewReader(data))
	resp.Request = req
	f.resp = resp
}

type failures []failure

// answer is what the client gets when no upstream served: the upstreams' own 404
// or other 4xx if all said one of these, else an error that names each upstream.
func (all failures) answer(req *http.Request, x *exchange) (*http.Response, error) {
	count := map[judge.Outcome]int{}
	for _, f := range all {
		count[f.outcome]++
	}
	if count[judge.NotFound]+count[judge.Rejected] < len(all) || len(all) == 0 {
		return nil, &unservedError{failures: all}
	}
	want := judge.NotFound
	if count[judge.Rejected] > 0 {
		want = judge.Rejected
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
		if f.outcome != judge.RateLimited {
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
