package routes

import (
	"strconv"
	"testing"
	"time"

	"github.com/d8-registry/registry/internal/datapath/judge"
	"github.com/d8-registry/registry/internal/datapath/oci"
)

func manifest(reference string) oci.Pull {
	return oci.Pull{Kind: oci.KindManifests, Host: "registry.example.com", Repository: "a/b", Reference: reference}
}

// limits is one upstream's, with a clock.
type limits struct {
	*testing.T
	Limits
	now time.Time
}

func newLimits(t *testing.T) *limits { return &limits{T: t, now: time.Unix(1_800_000_000, 0)} }

// says is an answer to a pull of the moment.
func (l *limits) says(p oci.Pull, o judge.Outcome, wait time.Duration) {
	l.now = l.now.Add(time.Millisecond)
	l.Note(l.now, l.now, "GET", p, Limited{Outcome: o, Wait: wait})
}

// asks is how many of some pulls would ask, one after the other without an answer.
func (l *limits) asks(p oci.Pull) (n int) {
	var turns []Turn
	for range 5 {
		if turn := l.Ask(l.now, "GET", p); turn.Limited == nil {
			n++
			turns = append(turns, turn)
		}
	}
	for _, turn := range turns {
		l.Through(turn, "GET", p)
	}
	return n
}

func (l *limits) want(what string, p oci.Pull, n int) {
	l.Helper()
	if got := l.asks(p); got != n {
		l.Errorf("%s: %d of 5 ask, want %d", what, got, n)
	}
}

func TestOnePullFindsOutForAll(t *testing.T) {
	t.Parallel()
	l := newLimits(t)
	l.want("nothing was said", manifest("v1"), 5)
	l.says(manifest("v1"), judge.RateLimited, 20*time.Second)
	l.want("it asked us to wait", manifest("v1"), 0)
	l.want("another one of the same repository", manifest("v2"), 0)
	l.now = l.now.Add(20 * time.Second)
	l.want("the wait is over", manifest("v1"), 1)
	l.says(manifest("v1"), judge.RateLimited, 20*time.Second)
	l.want("it said so again", manifest("v1"), 0)
	l.now = l.now.Add(20 * time.Second)
	l.says(manifest("v2"), judge.NotFound, 0)
	l.want("it said something else", manifest("v1"), 5)
}

// What a limit was not said of is asked for: who pulls it may be served.
func TestALimitIsOfWhatWasAskedFor(t *testing.T) {
	t.Parallel()
	l := newLimits(t)
	blob, other, elsewhere := manifest("v1"), manifest("v1"), manifest("v1")
	blob.Kind, other.Repository, elsewhere.Host = oci.KindBlobs, "a/c", "quay.example.com"
	l.says(manifest("v1"), judge.RateLimited, time.Minute)
	for what, p := range map[string]oci.Pull{"a layer": blob, "another repository": other, "another registry of a mirror": elsewhere} {
		l.want(what, p, 5)
	}
	if turn := l.Ask(l.now, "HEAD", manifest("v1")); turn.Limited != nil {
		t.Error("HEAD is limited as GET is")
	}
	l = newLimits(t)
	l.says(manifest("v1"), judge.ServerError, time.Minute)
	l.want("the object that is not ready", manifest("v1"), 0)
	l.want("another object", manifest("v2"), 5)
	for _, o := range []judge.Outcome{judge.ServerError, judge.NoConnection, judge.Refused} {
		l = newLimits(t)
		l.says(manifest("v1"), o, 0)
		l.want("no wait was said with "+string(o), manifest("v1"), 5)
	}
}

// A registry that lies about how long it wants to wait is not believed for long.
func TestALongWaitIsTriedEarlier(t *testing.T) {
	t.Parallel()
	for o, pace := range map[judge.Outcome]time.Duration{judge.RateLimited: limitedPace, judge.ServerError: failingPace} {
		l := newLimits(t)
		for range 3 {
			l.says(manifest("v1"), o, time.Hour)
			l.now = l.now.Add(pace - time.Second)
			l.want("before its time", manifest("v1"), 0)
			if turn := l.Ask(l.now, "GET", manifest("v1")); turn.Limited == nil || turn.Limited.Until().Sub(l.now) < 59*time.Minute {
				t.Errorf("the client is not told what the registry said: %+v", turn.Limited)
			}
			l.now = l.now.Add(time.Second)
			l.want("one every "+pace.String(), manifest("v1"), 1)
		}
	}
	l := newLimits(t)
	for _, wait := range []time.Duration{1, 2, 4, 8, 16, 30, 30} { // it does not say how long
		l.says(manifest("v1"), judge.RateLimited, 0)
		l.now = l.now.Add(wait*time.Second - time.Millisecond)
		l.want("too early", manifest("v1"), 0)
		l.now = l.now.Add(time.Millisecond)
		l.want("after "+strconv.Itoa(int(wait))+" s", manifest("v1"), 1)
	}
}

// What was sent before a limit says nothing about it.
func TestAnOldAnswerDoesNotOpen(t *testing.T) {
	t.Parallel()
	l := newLimits(t)
	sent := l.now
	l.says(manifest("v1"), judge.RateLimited, time.Minute)
	l.Note(sent, l.now.Add(time.Second), "GET", manifest("v1"), Limited{Outcome: judge.Relayed})
	l.want("still limited", manifest("v1"), 0)
	l.Note(l.now.Add(time.Second), l.now.Add(time.Second), "GET", manifest("v1"), Limited{Outcome: judge.Relayed})
	l.want("served since", manifest("v1"), 5)
}

// Of all that is limited it is said when the last ends: of what is over nothing is.
func TestUntilWhenOfAll(t *testing.T) {
	t.Parallel()
	l := newLimits(t)
	other, third := manifest("v1"), manifest("v1")
	other.Repository, third.Repository = "a/c", "a/d"
	opens := func(p oci.Pull) time.Duration {
		l.now = l.now.Add(time.Millisecond)
		until, news := l.Note(l.now, l.now, "GET", p, Limited{Outcome: judge.Relayed})
		if !news {
			t.Errorf("%s: no news", p.Repository)
		}
		if until.IsZero() {
			return 0
		}
		return until.Sub(l.now).Round(time.Second)
	}
	l.says(manifest("v1"), judge.RateLimited, time.Minute)
	l.says(other, judge.RateLimited, 10*time.Minute)
	l.says(third, judge.RateLimited, 20*time.Minute)
	if left := opens(manifest("v1")); left != 20*time.Minute {
		t.Errorf("with two left it is limited for %v", left)
	}
	l.now = l.now.Add(time.Hour)
	if left := opens(other); left != 0 {
		t.Errorf("when all are over it is limited for %v", left)
	}
}

// Whoever waits for the one that asks hears that it is through, also when it did not find
// out.
func TestWaitersHear(t *testing.T) {
	t.Parallel()
	l := newLimits(t)
	l.says(manifest("v1"), judge.RateLimited, time.Second)
	l.now = l.now.Add(time.Second)
	first := l.Ask(l.now, "GET", manifest("v1"))
	second := l.Ask(l.now, "GET", manifest("v1"))
	if first.Limited != nil || second.Limited == nil || second.Probe == nil || !l.Closed(l.now, "GET", manifest("v1")) {
		t.Fatalf("first %+v, second %+v", first, second)
	}
	l.Through(first, "GET", manifest("v1"))
	<-second.Probe
	if l.Closed(l.now, "GET", manifest("v1")) {
		t.Error("nobody may ask")
	}
	l.want("the next one asks", manifest("v1"), 1)
}

func TestLimitsAreBounded(t *testing.T) {
	t.Parallel()
	l := newLimits(t)
	for i := range 3 * mostLimits {
		l.says(manifest(strconv.Itoa(i)), judge.ServerError, time.Hour)
		if len(l.closed) > mostLimits {
			t.Fatal("more and more is remembered")
		}
	}
}
