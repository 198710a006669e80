package space

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

const every = 5 * time.Second

// A disk that is slow for etcd halves what is written, to 10 MB/s at the least, and a
// minute of quick probes gives a quarter more.
func TestGuard(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var said bytes.Buffer
		g, ctx := &Guard{Log: slog.New(slog.NewTextHandler(&said, nil))}, t.Context()
		var failed error
		second := func(took time.Duration, n int) { // of a window of 5 s
			if err := g.Pace(ctx, n); err != nil {
				t.Fatal(err)
			}
			g.judge(took, every, failed)
		}
		want := func(mib float64) {
			t.Helper()
			if pace, _ := g.Limit(); pace != mib*(1<<20) {
				t.Errorf("%.1f MiB/s, want %.1f", pace/(1<<20), mib)
			}
		}
		second(10*time.Millisecond, 1000<<20)
		want(0)
		second(60*time.Millisecond, 1000<<20)
		want(100)
		begin := time.Now()
		second(60*time.Millisecond, 250<<20)
		if took := time.Since(begin); took < 2*time.Second || took > 3*time.Second {
			t.Errorf("250 MiB at 100 MiB/s took %s", took)
		}
		want(25)
		second(time.Second, 20<<20)
		want(10)
		for range probes {
			second(time.Millisecond, 0)
		}
		want(12.5)
		for range 30 * probes {
			second(time.Millisecond, 0)
		}
		want(0)
		if all := said.String(); strings.Count(all, "\n") != 2 || !strings.Contains(all, "sync=60ms bytesPerSecond=104857600\n") || !strings.Contains(all, "nothing is held back") {
			t.Errorf("it says:\n%s", all)
		}
		said.Reset()
		failed = errors.New("no probe")
		if second(time.Second, 0); !strings.Contains(said.String(), `err="no probe" bytesPerSecond=`) || strings.Contains(said.String(), "sync=") {
			t.Errorf("of a probe that failed it says %s", said.String())
		}
	})
}

// TestADiskThatEtcdCanLiveWith: a disk of 200 MiB a second, on which a sync takes 200 ms as soon as more than 25
// are written to it. With the guard an etcd is disturbed by one probe in twenty at most, and what comes is
// written at no less than always; without it by all.
func TestADiskThatEtcdCanLiveWith(t *testing.T) {
	t.Parallel()
	for name, guard := range map[string]*Guard{"as it ships": {}, "guard off": nil} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				slow, written := fillBeside(t, guard)
				if guard == nil && slow < probes*10 || guard != nil && (slow > probes*10/20 || written < 600*SlowestPace) {
					t.Errorf("%d of %d probes were slow, %d MiB written in ten minutes", slow, probes*10, written>>20)
				}
			})
		})
	}
}

// fillBeside writes as fast as it may for eleven minutes, and counts in the last ten.
func fillBeside(t *testing.T, guard *Guard) (slow, written int64) {
	t.Helper()
	ctx, end := context.WithCancel(t.Context())
	var wrote, late, all atomic.Int64
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for guard.Pace(ctx, burst) == nil && ctx.Err() == nil {
			time.Sleep(5 * time.Millisecond) //nolint:forbidigo // what a disk of 200 MiB/s takes for it
			wrote.Add(burst)
		}
	}()
	probe := func() (time.Duration, error) {
		rate := wrote.Swap(0) / int64(every/time.Second)
		all.Add(rate * int64(every/time.Second))
		if rate > 25<<20 {
			late.Add(1)
			return 200 * time.Millisecond, nil
		}
		return 5 * time.Millisecond, nil
	}
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	if guard != nil {
		go guard.Run(ctx, every, ticker.C, probe)
	} else {
		go func() {
			for range ticker.C {
				if _, err := probe(); err != nil || ctx.Err() != nil {
					return
				}
			}
		}()
	}
	<-time.After(time.Minute + time.Second)
	synctest.Wait()
	late.Store(0)
	all.Store(0)
	<-time.After(10 * time.Minute)
	synctest.Wait()
	slow, written = late.Load(), all.Load()
	end()
	<-ended
	<-time.After(every)
	return slow, written
}

// A probe that fails is a disk that is not well, and who waits leaves with its context.
func TestGuardRuns(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, end := context.WithCancel(t.Context())
		g, ticks, ended := &Guard{}, make(chan time.Time), make(chan struct{})
		go func() {
			g.Run(ctx, every, ticks, func() (time.Duration, error) { return 0, errors.New("input/output error") })
			close(ended)
		}()
		ticks <- time.Time{}
		synctest.Wait()
		if pace, lowered := g.Limit(); pace != SlowestPace || lowered != 1 {
			t.Errorf("%f, %d", pace, lowered)
		}
		waits := make(chan error)
		go func() { waits <- g.Pace(ctx, 1<<30) }()
		end()
		if err := <-waits; !errors.Is(err, context.Canceled) {
			t.Errorf("%v", err)
		}
		<-ended
	})
	if err := (*Guard)(nil).Pace(t.Context(), 1<<30); err != nil {
		t.Error(err)
	}
}

func TestDefaults(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		total              int64
		etcd               bool
		quotaGiB, floorGiB int64
	}{
		{1000, false, 600, 100}, {40, false, 24, 10}, {20, false, 10, 10}, {8, false, 0, 10},
		{1000, true, 200, 250}, {100, true, 20, 25}, {21, true, 1, 20},
	} {
		if quota, floor := Defaults(c.total*gib, c.etcd); quota != c.quotaGiB*gib || floor != c.floorGiB*gib {
			t.Errorf("%d GiB, etcd %t: quota %d GiB, floor %d GiB", c.total, c.etcd, quota/gib, floor/gib)
		}
	}
}
