package proof

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/node/handoff"
	"github.com/d8-registry/registry/internal/node/report"
)

// redirected is a containerd and a serving half in one: pulls of the names in
// it arrive and hang, all others end in an error.
type redirected struct {
	names   []layout.Name
	pulls   []string
	removed []string
	peer    string // where pulls come from
	has     bool   // everything can be pulled, from somewhere
	pending map[string]layout.Name
	arrived chan string
}

func (r *redirected) Expect(_ context.Context, nonce string, name layout.Name) error {
	r.pending[nonce] = name
	return nil
}

func (r *redirected) Seen(ctx context.Context, nonce string, wait time.Duration) (handoff.Arrival, error) {
	select {
	case got := <-r.arrived:
		return handoff.Arrival{Seen: got == nonce, Peer: r.peer}, nil
	default:
	}
	select {
	case got := <-r.arrived:
		return handoff.Arrival{Seen: got == nonce, Peer: r.peer}, nil
	case <-time.After(wait):
		return handoff.Arrival{}, nil
	case <-ctx.Done():
		return handoff.Arrival{}, ctx.Err()
	}
}

func (r *redirected) PullImage(ctx context.Context, ref string) (string, error) {
	r.pulls = append(r.pulls, ref)
	nonce := ref[strings.LastIndex(ref, ":")+1:]
	if slices.Contains(r.names, r.pending[nonce]) {
		r.arrived <- nonce
		<-ctx.Done()
		return "", ctx.Err()
	}
	if r.has {
		return "id", nil
	}
	return "", errors.New("not found")
}

func (r *redirected) RemoveImage(_ context.Context, ref string) error {
	r.removed = append(r.removed, ref)
	return nil
}

func anybody(string) error { return nil }

func TestProve(t *testing.T) {
	t.Parallel()
	fixed, other := layout.Fixed(), layout.Name{Host: "a.example.com"}
	node := &redirected{names: []layout.Name{fixed}, pending: map[string]layout.Name{}, arrived: make(chan string, 1)}
	p := New(node, "", 5*time.Minute)
	now := time.Now()
	p.now = func() time.Time { return now }
	prove := func(n layout.Name, key string, good bool, pulls int) {
		t.Helper()
		before := len(node.pulls)
		instance, content, _ := strings.Cut(key, ", ")
		err := p.prove(t.Context(), node, n, asked{instance, anybody}, content, newNonce("uid", 7))
		if (err == nil) != good || err != nil && !errors.Is(err, errNotSeen) || len(node.pulls)-before != pulls {
			t.Errorf("%s: %v after %d pulls, want good %t after %d", n, err, len(node.pulls)-before, good, pulls)
		}
	}
	prove(fixed, "run 1, content 1", true, 1)
	prove(fixed, "run 1, content 1", true, 0)
	prove(fixed, "run 1, content 2", true, 1)
	prove(fixed, "run 2, content 2", true, 1)
	now = now.Add(5 * time.Minute)
	prove(fixed, "run 2, content 2", true, 1)
	prove(other, "run 2, content 2", false, 1)
	prove(other, "run 2, content 2", false, 1)
	node.names = nil
	prove(fixed, "run 2, content 2", true, 0)
	now = now.Add(5 * time.Minute)
	prove(fixed, "run 2, content 2", false, 1)
	node.has = true
	prove(fixed, "run 2, content 2", false, 1)
	if len(node.removed) != 1 || node.removed[0] != node.pulls[len(node.pulls)-1] {
		t.Errorf("somebody's image stays: %q", node.removed)
	}
	if !strings.HasPrefix(node.pulls[0], "registry.d8-system.svc:5001/system/deckhouse/registry-proof:uid.7.") {
		t.Errorf("reference %s", node.pulls[0])
	}
	if node.pulls[0] == node.pulls[1] {
		t.Error("the same nonce twice")
	}
}

// TestQuestionsWithoutAnswerAreNoProof: serve starts again in the middle of a
// proof. Only a pull that went elsewhere takes the report back at once.
func TestQuestionsWithoutAnswerAreNoProof(t *testing.T) {
	t.Parallel()
	now := time.Now()
	reporter := report.New(report.Options{Now: func() time.Time { return now }})
	stands := func() int64 { return reporter.Begin().Proved().Generation }
	reporter.Begin().Prove(report.LastProved{Generation: 5})
	doubt := func(relied bool, err error) *report.Report {
		r := reporter.Begin()
		New(nil, "", time.Hour).doubt(t.Context(), r, relied, err)
		return r
	}
	refused := errors.New("connection refused")
	if doubt(false, errNotSeen); stands() != 5 {
		t.Error("a name that nobody relied on")
	}
	if r := doubt(true, refused); stands() != 5 || !r.Hold {
		t.Errorf("no answer: %+v, %+v", stands(), r)
	}
	now = now.Add(10 * time.Second)
	if r := doubt(true, refused); stands() != 0 || r.Hold {
		t.Errorf("no answer for long: %+v, %+v", stands(), r)
	}
	again := reporter.Begin()
	again.Prove(report.LastProved{Generation: 5})
	again.Over("proof")
	if r := doubt(true, fmt.Errorf("x: %w", errNotSeen)); stands() != 0 || r.Hold {
		t.Errorf("went elsewhere: %+v, %+v", stands(), r)
	}
}

// stubborn is a containerd that answers as it is told and hangs when it is to
// remove something.
type stubborn struct{ err error }

func (s stubborn) PullImage(context.Context, string) (string, error) { return "id", s.err }

func (s stubborn) RemoveImage(ctx context.Context, _ string) error {
	<-ctx.Done()
	return ctx.Err()
}

func TestWhatContainerdSaid(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		err  error
		want string
	}{
		"not found":     {status.Error(codes.NotFound, "x"), errNotSeen.Error()},
		"no CRI images": {fmt.Errorf("pull: %w", status.Error(codes.Unimplemented, "unknown service SECRET")), "are both set"},
		"no such host":  {fmt.Errorf("pull: %w", status.Error(codes.Unknown, "failed SECRET")), errNotSeen.Error()},
		"another error": {fmt.Errorf("pull: %w", status.Error(codes.Internal, "failed SECRET")), "Internal"},
		"called off":    {status.Error(codes.Canceled, "x"), "does not end the pull"},
		"it has it":     {nil, errNotSeen.Error()},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := New(stubborn{row.err}, "", time.Hour)
				serve := &redirected{pending: map[string]layout.Name{}, arrived: make(chan string, 1)}
				began := time.Now()
				err := p.prove(t.Context(), serve, layout.Fixed(), asked{"run", anybody}, "content", "nonce")
				if !errors.Is(err, errNotSeen) || !strings.HasSuffix(err.Error(), row.want) || strings.Contains(err.Error(), "SECRET") {
					t.Errorf("%v, want %q", err, row.want)
				}
				if time.Since(began) > pullTime+removeTime {
					t.Error("it waited for containerd to remove an image")
				}
			})
		})
	}
}
