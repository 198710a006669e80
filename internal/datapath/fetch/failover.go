package fetch

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"time"

	"github.com/d8-registry/registry/internal/datapath/answer"
	"github.com/d8-registry/registry/internal/datapath/judge"
	"github.com/d8-registry/registry/internal/datapath/oci"
	"github.com/d8-registry/registry/internal/datapath/routes"
	"github.com/d8-registry/registry/internal/foreign"
)

// probeShare is the part of the budget that an unhealthy upstream gets to show
// that it works again, while others could serve: a bit over 2 s.
const probeShare = 8

// behindStores is the part of the budget that upstreams have in any case: 6 s.
const behindStores = 3

// failover asks one upstream after the other until one gives an answer worth
// relaying. Pulls have no body, so asking again is always safe before the
// first byte. All upstreams together have one budget: containerd 2 gives up
// after 30 s, and 1.6 never does, so both need an answer in time.
type failover struct {
	budget, stall, silent, probe, hop time.Duration
	metrics                           Metrics
	checker                           *answer.Checker
	promises                          Promises
}

type try struct {
	target *routes.Target
	probed bool
}

func (f failover) RoundTrip(req *http.Request) (*http.Response, error) {
	x := From(req.Context())
	deadline := time.Now().Add(f.budget)
	var failed failures
	tries := f.order(req.Method, x)
	for i := 0; i < len(tries); i++ {
		t := tries[i]
		if t.probed && !t.target.Health.Probe(time.Now(), f.probe) {
			tries = append(tries, try{target: t.target}) // another request finds out how it is
			continue
		}
		limit := f.share(time.Until(deadline), tries[i:])
		if limit <= 0 && t.target.IsStore() {
			continue
		}
		x.Record.Attempts++
		resp, failure := f.askInTurn(req, x, t.target, limit)
		if failure == nil {
			x.Served = t.target
			x.Record.Upstream = t.target.Host()
			return resp, nil
		}
		if req.Context().Err() != nil {
			return nil, context.Cause(req.Context()) // the client has gone; the other upstreams are not to blame
		}
		failure.reason = foreign.Line(failure.reason, foreign.Sentence) // it is logged, and goes into the client's answer
		if !t.target.IsStore() || f.promises.firstStoreOnly {
			failed = append(failed, *failure)
		} else if failure.isOfAll(x) {
			return failures{*failure}.answer(req, x)
		}
	}
	return failed.answer(req, x)
}

// share is how much of the time that is left the next one may take to its header. A silent upstream
// may not use up the time of the others. A store that is alive may wait for one, as the next store
// would too: so all stores together leave the upstreams behind them a part, and each other what is
// left. Stores behind a registry have one part of a hop in all, however many they are: most are asked
// late because they are dead.
func (f failover) share(left time.Duration, tries []try) time.Duration {
	next, others := tries[0], tries[1:]
	registries := 0
	for _, t := range tries {
		if !t.target.IsStore() {
			registries++
		}
	}
	var limit time.Duration
	switch {
	case registries == 0:
		limit = left / time.Duration(len(tries))
	case next.target.IsStore():
		limit = left - f.budget/behindStores
	case registries < len(tries):
		limit = (left - min(f.hop, left/2)) / time.Duration(registries)
	default:
		limit = left / time.Duration(registries)
	}
	if next.probed && len(others) > 0 {
		limit = min(limit, f.budget/probeShare)
	}
	return limit
}

// order is the route's own, behind who gave of it before, with those last that asked us to wait,
// then those that are unhealthy, after them the one that just broke this very pull, and then those
// whose bytes were wrong a moment ago: one of them may be right by now, and the only one that has
// them.
func (f failover) order(method string, x *Exchange) []try {
	if len(x.Route.Targets) == 1 || f.promises.firstStoreOnly && x.Route.Targets[0].IsStore() {
		return []try{{target: x.Route.Targets[0]}}
	}
	now := time.Now()
	var first, limited, unwell, justBroken, corrupt []try
	for _, t := range x.goOn() {
		if x.Pull.Kind == oci.KindBlobs && t.Corrupt.Has(now, x.Pull.Reference) {
			corrupt = append(corrupt, try{target: t})
			continue
		}
		if x.broken != nil && t.Server == x.broken.Server {
			justBroken = append(justBroken, try{target: t})
			continue
		}
		if t.May(x.Pull, x.Route.Name) && t.Limits.Closed(now, method, x.Pull) {
			limited = append(limited, try{target: t})
			continue
		}
		switch s := t.Health.State(now); s {
		case routes.Unhealthy:
			unwell = append(unwell, try{target: t})
		case routes.Healthy, routes.Probing:
			first = append(first, try{target: t, probed: s == routes.Probing})
		}
	}
	return slices.Concat(first, limited, unwell, justBroken, corrupt)
}

// ask sends the request to one upstream. The response that it returns is one
// to relay, its body watched for silence.
func (f failover) ask(req *http.Request, x *Exchange, t *routes.Target, limit time.Duration) (*http.Response, *failure) {
	failure := &failure{target: t}
	out, reason := t.Request(req, x.Pull, x.Route.Name)
	if out == nil {
		failure.outcome, failure.reason = judge.NotFound, reason
		return nil, failure
	}
	p := newAttemptTimeout(out.Context(), limit) //nolint:contextcheck // it is that of req, with the name of the repository there
	if t.IsStore() {
		p.whileAlive(min(f.hop, limit), t.Ping) //nolint:contextcheck // p.ctx is req's, with a limit
	}
	out = out.WithContext(p.ctx) //nolint:contextcheck // p.ctx is req's, with a limit
	resp, err := t.Transport.RoundTrip(out)
	if err != nil {
		err = p.explain(err)
		p.end()
		if req.Context().Err() == nil {
			// Without a connection it cost us time, and will again.
			failure.outcome, failure.reason = judge.OfError(err)
			failure.wait = judge.WaitOf(err, time.Now())
			f.lost(t, p, failure.outcome, x.Pull.IsLayer(req.Method))
			f.note(t, failure.outcome, failure.reason)
		}
		return nil, failure
	}
	failure.outcome, failure.reason, x.proved = f.check(resp, x, t, out)
	if failure.outcome == judge.Relayed {
		if p.headerArrived() {
			t.Health.Served(x.Pull.IsLayer(req.Method))
			f.note(t, judge.Relayed, "")
			if t.IsStore() { // which waits itself for whom it asks
				resp.Body = p.watch(resp.Body, f.stall, f.silent, t.Ping)
			} else {
				resp.Body = p.watch(resp.Body, f.stall, 0, nil)
			}
			return resp, nil
		}
		failure.outcome, failure.reason = judge.NoConnection, errNoAnswer.Error()
	}
	if t.IsStore() && failure.outcome.Reached() { // it is there, and has nothing else to show it by
		t.Health.Served(x.Pull.IsLayer(req.Method))
	}
	if !failure.outcome.Reached() && req.Context().Err() == nil {
		failure.reason = p.explain(errors.New(failure.reason)).Error()
		f.lost(t, p, failure.outcome, x.Pull.IsLayer(req.Method))
	}
	failure.keepAnswer(resp, out)
	p.end()
	if req.Context().Err() == nil {
		f.note(t, failure.outcome, failure.reason)
	}
	return nil, failure
}

// check is what an answer means. A store that says that there is no such place, or that a condition does
// not hold, is believed as little as one that has nothing.
func (f failover) check(resp *http.Response, x *Exchange, t *routes.Target, sent *http.Request) (judge.Outcome, string, bool) {
	outcome, reason, proved := f.checker.Check(resp, answer.Asked{Pull: x.Pull, Sent: sent, Others: x.others(), Again: t.Transport})
	if outcome == judge.Relayed && t.IsStore() && resp.StatusCode >= http.StatusBadRequest {
		return judge.Nonsense, "answered " + resp.Status + ", which only a registry can know", false
	}
	return outcome, reason, proved
}

// lost notes that an attempt cost time, and that the next ones will.
func (f failover) lost(t *routes.Target, p *attemptTimeout, o judge.Outcome, layer bool) {
	if !o.Reached() && !p.waited() {
		t.Health.Failed(time.Now(), f.probe, layer)
	}
}

func (f failover) note(t *routes.Target, o judge.Outcome, reason string) {
	t.Streak.Note(time.Now(), o, reason)
	f.metrics.Attempt(t.Host(), o)
}
