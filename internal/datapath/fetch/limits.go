package fetch

import (
	"fmt"
	"net/http"
	"time"

	"github.com/d8-registry/registry/internal/datapath/judge"
	"github.com/d8-registry/registry/internal/datapath/routes"
)

// askInTurn is ask for an upstream that may have asked us to wait: for a while nothing is
// sent to it, then by one pull at a time. Its failure is that of the one that it said so to.
func (f failover) askInTurn(req *http.Request, x *Exchange, t *routes.Target, limit time.Duration) (*http.Response, *failure) {
	if !t.May(x.Pull, x.Route.Name) {
		return f.ask(req, x, t, limit) // which says so, and asks nobody
	}
	came := time.Now()
	turn, limited := f.turn(req, x, t, limit/probeShare)
	if limited != nil {
		f.metrics.Spared(t.Host())
		return nil, limited
	}
	defer t.Limits.Through(turn, req.Method, x.Pull)
	sent := time.Now()
	resp, failure := f.ask(req, x, t, limit-sent.Sub(came))
	if req.Context().Err() != nil {
		return resp, failure
	}
	said := routes.Limited{Outcome: judge.Relayed}
	if failure != nil {
		said = routes.Limited{Outcome: failure.outcome, Reason: failure.reason, Wait: failure.wait}
	}
	if until, news := t.Limits.Note(sent, time.Now(), req.Method, x.Pull, said); news {
		f.metrics.Limited(t.Host(), until)
	}
	return resp, failure
}

// turn waits until the upstream may be asked, if that is soon. A pull that a client has a
// part of does not wait: it has no other way to be whole. Nor does any go on waiting for
// somebody else's pull that takes long: it may be served itself.
func (f failover) turn(req *http.Request, x *Exchange, t *routes.Target, patience time.Duration) (routes.Turn, *failure) {
	if x.begun {
		return routes.Turn{}, nil
	}
	deadline := time.Now().Add(patience)
	for {
		now := time.Now()
		turn := t.Limits.Ask(now, req.Method, x.Pull)
		left := deadline.Sub(now)
		switch {
		case turn.Limited == nil:
			return turn, nil
		case turn.Probe != nil && left <= 0:
			return routes.Turn{}, nil
		case turn.Probe == nil && turn.Open.After(deadline):
			return routes.Turn{}, again(t, turn.Limited, now)
		case turn.Probe == nil:
			left = turn.Open.Sub(now)
		}
		select {
		case <-turn.Probe:
		case <-time.After(left):
		case <-req.Context().Done():
			return routes.Turn{}, again(t, turn.Limited, now)
		}
	}
}

// again is the failure of an upstream that would say the same again.
func again(t *routes.Target, said *routes.Limited, now time.Time) *failure {
	f := &failure{target: t, outcome: said.Outcome, reason: fmt.Sprintf("%s, a moment ago; it is not asked again yet", said.Reason)}
	if said.Wait > 0 {
		f.wait = max(said.Until().Sub(now), time.Second)
	}
	return f
}
