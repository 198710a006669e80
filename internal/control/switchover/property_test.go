package switchover

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

var (
	histories = flag.Int("histories", 2000, "how many histories of random users to run")
	seed      = flag.Uint64("seed", 0, "the only history to run, with its trail; 0: all of them")
)

// TestMain: histories make a lot of garbage and keep nothing.
func TestMain(m *testing.M) {
	debug.SetGCPercent(800)
	os.Exit(m.Run())
}

// ticks is how many things happen in a history.
const ticks = 120

// history runs one history: users and the world do what they like, then all is
// quiet. It returns what went wrong.
func history(seed uint64, p Protocol, t tamper, trail *[]string) string {
	s := newSim(seed, p, t)
	s.trail = trail
	rng := rand.New(rand.NewPCG(seed, 2))
	// Each history knows only some kinds of fault: a rare sequence is then
	// less often drowned by the others.
	var faults []event
	for i, e := range s.focus.faults() {
		if i == 0 || rng.IntN(2) == 0 {
			e.weight *= 1 + rng.IntN(2)
			faults = append(faults, e)
		}
	}
	work := workEvents()
	if s.focus == onStores {
		work = append(work, storeWork()...)
	}
	// Half of them start after a switch, or after a switch and back.
	if start := rng.IntN(4); start > 1 {
		mode := Direct
		if s.focus == onStores && seed%3 > 0 {
			mode = ModeProxy
		}
		s.setSpec(Spec{Mode: mode, Upstream: s.ups[rng.IntN(len(s.ups))]})
		s.settlesDown()
		if start > 2 {
			s.setSpec(Spec{Mode: Unmanaged})
			s.settlesDown()
		}
		s.userEdits()
	}
	often := 4 + rng.IntN(12)
	for end := s.tick + ticks; s.tick < end && s.violation == ""; s.tick++ {
		steps := len(s.stored.Passed)
		switch {
		case rng.IntN(often) == 0:
			something(rng, faults).do(s)
		default:
			something(rng, work).do(s)
		}
		s.promise()
		// The worst moment is right after a step.
		if len(s.stored.Passed) != steps {
			switch rng.IntN(6) {
			case 0:
				something(rng, faults).do(s)
			case 1:
				s.registryDies()
			case 2:
				s.oldManifestApplied()
			}
			s.promise()
		}
		s.now = s.now.Add(time.Duration(rng.IntN(10)) * time.Second)
	}
	if s.violation == "" {
		s.settlesDown()
	}
	return s.violation
}

func something(rng *rand.Rand, events []event) event {
	total := 0
	for _, e := range events {
		total += e.weight
	}
	pick := rng.IntN(total)
	for _, e := range events {
		if pick -= e.weight; pick < 0 {
			return e
		}
	}
	return events[0]
}

// TestRandomUsers is the promise: whatever users and the world do, every
// counting node pulls every reference in use, Ready never lies, and in peace
// the switch ends.
func TestRandomUsers(t *testing.T) {
	t.Parallel()
	if *seed != 0 {
		fail(t, *seed, Standard(), tamper{})
		return
	}
	start := time.Now()
	if bad := search(t, *histories, Standard(), tamper{}); bad != 0 {
		fail(t, bad, Standard(), tamper{})
		return
	}
	t.Logf("%d histories in %v", *histories, time.Since(start).Round(time.Millisecond))
}

// TestRandomUsersWithALayoutPerRole: the same holds where the in-cluster proxy
// routes by a layout of its own.
func TestRandomUsersWithALayoutPerRole(t *testing.T) {
	t.Parallel()
	if *seed != 0 {
		fail(t, *seed, cached(), tamper{})
		return
	}
	if bad := search(t, *histories/4, cached(), tamper{}); bad != 0 {
		fail(t, bad, cached(), tamper{})
	}
}

// TestRandomUsersWithStores: the same holds with a mode Proxy among the wishes, and
// stores that die, lag, lose their disks and come back.
func TestRandomUsersWithStores(t *testing.T) {
	t.Parallel()
	if *seed != 0 {
		fail(t, *seed, Standard(), tamper{stores: true})
		return
	}
	if bad := search(t, *histories/4, Standard(), tamper{stores: true}); bad != 0 {
		fail(t, bad, Standard(), tamper{stores: true})
	}
}

// search runs histories on all processors and returns the seed of one that
// went wrong, or 0.
func search(t *testing.T, histories int, p Protocol, tm tamper) uint64 {
	t.Helper()
	var next, bad atomic.Uint64
	var workers sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		workers.Go(func() {
			for bad.Load() == 0 {
				seed := next.Add(1)
				if seed > uint64(histories) {
					return
				}
				if history(seed, p, tm, nil) != "" {
					bad.CompareAndSwap(0, seed)
				}
			}
		})
	}
	workers.Wait()
	return bad.Load()
}

// fail runs a history again and tells it.
func fail(t *testing.T, seed uint64, p Protocol, tm tamper) {
	t.Helper()
	var trail []string
	problem := history(seed, p, tm, &trail)
	text := fmt.Sprintf("seed %d: %s\n%s\nrepeat: go test -run %s -seed %d", seed, problem, strings.Join(trail, "\n"), t.Name(), seed)
	if problem == "" {
		t.Log(text)
		return
	}
	t.Error(text)
}
