package fetch

import (
	"bytes"
	"cmp"
	"io"
	"net/http"
	"slices"
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

// isOfAll reports whether a store says that none of the upstreams has it, and has asked each one
// that we could: nothing else that a store says is about anybody but itself.
func (f *failure) isOfAll(x *Exchange) bool {
	if f.outcome != judge.NotFound || f.resp == nil {
		return false
	}
	asked := strings.Fields(f.resp.Header.Get(oci.HeaderAsked))
	return !slices.ContainsFunc(x.Route.Targets, func(t *routes.Target) bool { return !t.IsStore() && !slices.Contains(asked, t.Place()) })
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
func (all failures) answer(req *http.Request, x *Exchange) (*http.Response, error) {
	want := all.decisive()
	if want != judge.NotFound && want != judge.Rejected {
		return nil, &UnservedError{failures: all}
	}
	x.Served = x.Route.Targets[0]
	for _, f := range all {
		if f.outcome == want && f.resp != nil {
			x.Served = f.target
			x.Record.Upstream = f.target.Host()
			return f.resp, nil
		}
	}
	return &http.Response{
		StatusCode: http.StatusNotFound, Status: "404 Not Found",
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{}, Body: http.NoBody, Request: req,
	}, nil
}

// UnservedError says for each upstream why it did not serve.
type UnservedError struct{ failures failures }

func (e *UnservedError) Error() string {
	var parts []string
	for _, r := range e.Reasons() {
		parts = append(parts, r.Upstream+": "+r.Reason)
	}
	return strings.Join(parts, "; ")
}

// Reason is why one upstream did not serve.
type Reason struct {
	Upstream string `json:"upstream"` // its host
	Reason   string `json:"reason"`
}

// Reasons are those of all upstreams that were asked.
func (e *UnservedError) Reasons() []Reason {
	reasons := make([]Reason, 0, len(e.failures))
	for _, f := range e.failures {
		reasons = append(reasons, Reason{f.target.Host(), f.reason})
	}
	return reasons
}

// Outcome is what the client is told; see the table in package judge.
func (e *UnservedError) Outcome() judge.Outcome { return e.failures.decisive() }

// Soon is what the client waits for an upstream that fails and does not say how long:
// less than a registry needs to start anew.
const Soon = 5 * time.Second

// Wait is how long the client shall wait before it asks again: till the first upstream
// may work again, and where all that could serve limit us till the last of them does.
func (e *UnservedError) Wait() time.Duration {
	var longest, shortest time.Duration
	for _, f := range e.failures {
		switch {
		case f.outcome == judge.RateLimited:
			longest = max(longest, cmp.Or(f.wait, Soon))
		case f.outcome.Temporary() && (shortest == 0 || cmp.Or(f.wait, Soon) < shortest):
			shortest = cmp.Or(f.wait, Soon)
		}
	}
	if e.Outcome().Temporary() {
		return shortest
	}
	return longest
}
