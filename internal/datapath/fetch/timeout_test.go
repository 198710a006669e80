package fetch

import (
	"context"
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"
)

// slow gives a byte after a time, as long as its context lasts.
type slow struct {
	ctx   context.Context
	waits []time.Duration
}

func (s *slow) Read(p []byte) (int, error) {
	if len(s.waits) == 0 {
		return 0, io.EOF
	}
	select {
	case <-time.After(s.waits[0]):
		s.waits = s.waits[1:]
		p[0] = 'x'
		return 1, nil
	case <-s.ctx.Done():
		return 0, s.ctx.Err()
	}
}

func (s *slow) Close() error { return nil }

// TestWhoIsAliveMayBeSilent: a store that waits for a slow registry is not left, for then its bytes would be
// fetched twice. Who does not answer is, and so is who only answers.
func TestWhoIsAliveMayBeSilent(t *testing.T) {
	t.Parallel()
	const stall, mostSilent = 10 * time.Second, time.Minute
	alive := func(context.Context) error { return nil }
	dead := func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
	refused := func(context.Context) error { return errors.New("connection refused") }
	for name, tc := range map[string]struct {
		ping  func(context.Context) error
		waits []time.Duration
		got   int
		after time.Duration // 0: all is got
	}{
		"nobody is silent":              {nil, []time.Duration{9 * time.Second, 9 * time.Second}, 2, 0},
		"a registry is silent":          {nil, []time.Duration{9 * time.Second, 11 * time.Second}, 1, 19 * time.Second},
		"a store that is alive":         {alive, []time.Duration{45 * time.Second, 45 * time.Second}, 2, 0},
		"a store that only answers":     {alive, []time.Duration{time.Second, time.Hour}, 1, time.Second + mostSilent},
		"a store that is gone":          {refused, []time.Duration{time.Second, time.Hour}, 1, 11 * time.Second},
		"a store that hangs":            {dead, []time.Duration{time.Second, time.Hour}, 1, 21 * time.Second},
		"a store that speaks meanwhile": {dead, []time.Duration{15 * time.Second, 15 * time.Second}, 2, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				p := newAttemptTimeout(t.Context(), time.Hour)
				p.headerArrived()
				began := time.Now()
				body := p.watch(&slow{p.ctx, tc.waits}, stall, mostSilent, tc.ping)
				got, err := io.ReadAll(body)
				took := time.Since(began)
				if len(got) != tc.got || (err != nil) != (tc.after > 0) || tc.after > 0 && (took != tc.after || !errors.Is(err, errNoAnswer)) {
					t.Errorf("%d bytes after %s, %v", len(got), took, err)
				}
				_ = body.Close()
			})
		})
	}
}
