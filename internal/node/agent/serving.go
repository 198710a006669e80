package agent

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/node/handoff"
	"github.com/d8-registry/registry/internal/node/hostsdir"
	"github.com/d8-registry/registry/internal/node/report"
)

// serveRetry is the pause before the serving half is asked again after a question
// failed: it is just starting.
const serveRetry = 500 * time.Millisecond

// serving follows the serving half.
type serving struct {
	listen string // its address
	state  handoff.StateDir
	log    *slog.Logger
	wake   func()

	latest atomic.Pointer[served] // nil while it does not answer
}

// served is the serving half's last answer, and the client that got it.
type served struct {
	client *handoff.Client
	status handoff.Status
}

// follow always has one open question at the serving half: which generation does
// it serve? Each new answer is reason for a pass.
func (s *serving) follow(ctx context.Context) {
	for {
		err := s.listenTo(ctx)
		if ctx.Err() != nil {
			return
		}
		s.latest.Store(nil)
		s.wake()
		s.log.Debug("the serving half does not answer", "err", err)
		select {
		case <-time.After(serveRetry):
		case <-ctx.Done():
			return
		}
	}
}

func (s *serving) listenTo(ctx context.Context) error {
	client, err := handoff.NewClient("https://"+s.listen, s.state, hostsdir.TokenHeader)
	if err != nil {
		return err
	}
	defer client.Close()
	var seen handoff.Status
	for {
		status, err := client.Wait(ctx, seen)
		if err != nil {
			return err
		}
		if status != seen {
			seen = status
			s.latest.Store(&served{client: client, status: status})
			s.wake()
		}
	}
}

// look is the layout that is served, zero before the first one. The second result
// is nil while that is not known.
func (s *serving) look(r *report.Report) (layout.Layout, *served) {
	now := s.latest.Load()
	if now == nil {
		r.Retry = true
		if r.Tolerated("serve") {
			r.Hold = true
			return layout.Layout{}, nil
		}
		r.Disprove()
		r.Problemf("the serving half of the agent does not answer")
		return layout.Layout{}, nil
	}
	r.Over("serve")
	if now.status.Generation < r.Proved().Generation {
		r.Disprove() // its disk was lost: what it does not serve is not proved
	}
	if now.status.Ahead {
		r.Status.Ahead = now.status.Generation // the controller does not know of it, and must go beyond it
	}
	if now.status.Problem != "" {
		r.Problemf("%s", now.status.Problem)
	}
	l, err := s.state.Layout()
	switch {
	case errors.Is(err, fs.ErrNotExist) && now.status.Generation == 0:
		return layout.Layout{}, now // nothing was ever published
	case err != nil:
		r.Retry = true
		r.Problemf("%v", err)
		return layout.Layout{}, nil
	case l.Generation != now.status.Generation:
		// A new layout is on disk before it is served.
		r.Retry = true
		if r.Hold = r.Tolerated("disk"); !r.Hold {
			r.Problemf("generation %d is served, but %d is on disk", now.status.Generation, l.Generation)
		}
		return layout.Layout{}, nil
	}
	r.Over("disk")
	return l, now
}

// options are what every entry of ours must say about the serving half.
func (s *serving) options() (hostsdir.Options, error) {
	token, errToken := s.state.Token()
	ca, errCA := s.state.CA()
	return hostsdir.Options{AgentURL: "https://" + s.listen, Token: token, AgentCA: ca}, cmp.Or(errToken, errCA)
}
