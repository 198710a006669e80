package proxy

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"time"

	"github.com/d8-registry/registry/internal/datapath/regauth"
)

// probeShare is the part of the budget that an upstream that was dead has to
// show that it lives, while others could serve: a bit over 2 s.
const probeShare = 8

// failover asks one upstream after the other until one gives an answer worth
// relaying. Pulls have no body, so asking again is always safe before the
// first byte. All of them together have one budget: containerd 2 gives up
// after 30 s, and 1.6 never does, so an answer in time is owed to both.
type failover struct {
	budget, stall, probe time.Duration
	metrics              *Metrics
}

type try struct {
	target *target
	probed bool
}

func (f failover) RoundTrip(req *http.Request) (*http.Response, error) {
	x := exchangeFrom(req.Context())
	deadline := time.Now().Add(f.budget)
	var failed failures
	tries := f.order(x)
	for i, t := range tries {
		// A silent upstream gets its share and no more, so that the next ones
		// have theirs.
		limit := time.Until(deadline) / time.Duration(len(tries)-i)
		if t.probed && i < len(tries)-1 {
			limit = min(limit, f.budget/probeShare)
		}
		x.record.attempts++
		resp, failure := f.ask(req, x, t.target, limit)
		if failure == nil {
			x.served = t.target
			x.record.upstream = t.target.upstream.Host
			return resp, nil
		}
		if req.Context().Err() != nil {
			return nil, context.Cause(req.Context()) // the client has gone; the other upstreams are not to blame
		}
		failed = append(failed, *failure)
	}
	return failed.answer(req, x)
}

// order is the route's own, but for those last that were found dead or that
// just broke this very pull.
func (f failover) order(x *exchange) []try {
	if len(x.route.targets) == 1 {
		return []try{{target: x.route.targets[0]}}
	}
	now := time.Now()
	var first, dead, justBroken []try
	for _, t := range x.route.targets {
		if t == x.broken {
			justBroken = append(justBroken, try{target: t})
			continue
		}
		switch s := t.health.ask(now, f.probe); s {
		case distrust:
			dead = append(dead, try{target: t})
		case trusted, probed:
			first = append(first, try{target: t, probed: s == probed})
		}
	}
	return slices.Concat(first, dead, justBroken)
}

// ask sends the request to one upstream. The response that it returns is one
// to relay, its body watched for silence.
func (f failover) ask(req *http.Request, x *exchange, t *target, limit time.Duration) (*http.Response, *failure) {
	failure := &failure{target: t}
	out, reason := t.rewrite(req, x.pull, x.route.name)
	if out == nil {
		failure.outcome, failure.reason = notFoundThere, reason
		return nil, failure
	}
	p := newPatience(req.Context(), limit)
	resp, err := t.transport.RoundTrip(out.WithContext(p.ctx)) //nolint:contextcheck // p.ctx is req's, with a limit
	if err != nil {
		err = p.explain(err)
		p.end()
		if req.Context().Err() == nil {
			f.blame(failure, t, err, layerOf(req, x.pull))
		}
		return nil, failure
	}
	failure.outcome, failure.reason = judge(resp, x.pull)
	if failure.outcome == relayed {
		failure.outcome, failure.reason = collect(resp, x.pull)
	}
	if failure.outcome == relayed {
		if p.headerArrived() {
			t.health.served(layerOf(req, x.pull))
			f.metrics.attempt(t.upstream.Host, relayed)
			resp.Body = p.watch(resp.Body, f.stall)
			return resp, nil
		}
		failure.outcome, failure.reason = broken, errImpatient.Error()
	}
	if failure.outcome == broken && req.Context().Err() == nil {
		failure.reason = p.explain(errors.New(failure.reason)).Error()
		t.health.failed(time.Now(), f.probe, layerOf(req, x.pull))
	}
	failure.keep(resp, out)
	p.end()
	f.metrics.attempt(t.upstream.Host, failure.outcome)
	return nil, failure
}

// layerOf reports whether a pull is one of a layer, which registries often have
// served by other machines than the rest.
func layerOf(req *http.Request, pull Pull) bool {
	return pull.Kind == KindBlobs && req.Method == http.MethodGet
}

// blame says what an error means: a refusal is an answer, anything else cost
// us time and will again.
func (f failover) blame(failure *failure, t *target, err error, layer bool) {
	failure.outcome, failure.reason = broken, err.Error()
	var refused *regauth.RefusedError
	if errors.As(err, &refused) {
		failure.outcome = refusedUs
	} else {
		t.health.failed(time.Now(), f.probe, layer)
	}
	f.metrics.attempt(t.upstream.Host, failure.outcome)
}
