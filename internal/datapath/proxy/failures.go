package proxy

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/d8-registry/registry/internal/datapath/judge"
	"github.com/d8-registry/registry/internal/datapath/oci"
	"github.com/d8-registry/registry/internal/datapath/routes"
)

// failure is why one upstream did not serve.
type failure struct {
	target  *routes.Target
	outcome judge.Outcome
	reason  string
	wait    time.Duration  // until it wants to be asked again; 0 if it did not say
	resp    *http.Response // with its body in memory; nil when there was no answer
}

// keepAnswer reads the small body of an answer that may be relayed later.
func (f *failure) keepAnswer(resp *http.Response, req *http.Request) {
	data, err := io.ReadAll(io.LimitReader(resp.Body, oci.MaxError))
	_ = resp.Body.Close()
	if err != nil {
		data = nil
	}
	if said := oci.FirstError(data); said != "" {
		f.reason += " (" + said + ")"
	}
	resp.Body = io.NopCloser(bytes.NewReader(data))
	resp.Request = req
	f.resp, f.wait = resp, judge.Wait(resp.Header, time.Now())
}

type failures []failure

// decisive is what the client is told when nobody served; see the table in package
// judge.
func (all failures) decisive() judge.Outcome {
	outcomes := make([]judge.Outcome, 0, len(all))
	for _, f := range all {
		outcomes = append(outcomes, f.outcome)
	}
	return judge.Decisive(outcomes)
}

// answer is what the client gets when no upstream served: the upstreams' own 404
// or other 4xx if none said anything else, or an error that names each upstream.
func (all failures) answer(req *http.Request, x *exchange) (*http.Response, error) {
	want := all.decisive()
	if want != judge.NotFound && want != judge.Rejected {
		return nil, &unservedError{failures: all}
	}
	x.served = x.route.Targets[0]
	for _, f := range all {
		if f.outcome == want && f.resp != nil {
			x.served = f.target
			x.record.upstream = f.target.Host()
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
		parts = append(parts, f.target.Host()+": "+f.reason)
	}
	return strings.Join(parts, "; ")
}

// soon is what the client waits for an upstream that fails and does not say how long:
// less than a registry needs to start anew.
const soon = 5 * time.Second

// wait is how long the client shall wait before it asks again: till the first upstream
// may work again, and where all that could serve limit us till the last of them does.
func (e *unservedError) wait(decisive judge.Outcome) time.Duration {
	var longest, shortest time.Duration
	for _, f := range e.failures {
		switch {
		case f.outcome == judge.RateLimited:
			longest = max(longest, cmp.Or(f.wait, soon))
		case f.outcome.Temporary() && (shortest == 0 || cmp.Or(f.wait, soon) < shortest):
			shortest = cmp.Or(f.wait, soon)
		}
	}
	if decisive.Temporary() {
		return shortest
	}
	return longest
}

// noUpstream answers when no upstream served, by the table in package judge. Never 401
// or 403: those would blame the client.
func noUpstream(w http.ResponseWriter, r *http.Request, err error) {
	rec := recordFrom(r.Context())
	rec.err = err
	if errors.Is(r.Context().Err(), context.Canceled) {
		rec.status = statusClientGone
		return
	}
	status, code := http.StatusBadGateway, oci.CodeUnavailable
	var detail []map[string]string
	var unserved *unservedError
	if errors.As(err, &unserved) {
		decisive := unserved.failures.decisive()
		if status = decisive.Status(); decisive == judge.RateLimited {
			code = oci.CodeTooManyRequests
		}
		if wait := unserved.wait(decisive); wait > 0 {
			w.Header().Set("Retry-After", strconv.Itoa(int((wait+time.Second-1)/time.Second)))
		}
		for _, f := range unserved.failures {
			detail = append(detail, map[string]string{"upstream": f.target.Host(), "reason": f.reason})
		}
	}
	entry := oci.ErrorEntry{Code: code, Message: "no upstream could serve this: " + err.Error()}
	if detail != nil { // in an interface it would be shown as null
		entry.Detail = detail
	}
	oci.ErrorBody{Errors: []oci.ErrorEntry{entry}}.Write(w, r, status)
}
