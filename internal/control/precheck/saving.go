package precheck

import (
	"slices"
	"time"

	"github.com/d8-registry/registry/internal/datapath/judge"
)

// mostPause is how long a check waits for a registry whose limit is nearly used up. Then
// it asks in any case: what is left may be few for ever, and a switch must go on.
const mostPause = 10 * time.Minute

// saving leaves the last requests that a registry allows to clients, who need them now.
type saving struct {
	may  bool // the check is one that may wait
	said judge.Allowance
	left []string // what was not asked for; empty if the check did not pause
	had  bool     // it paused the last time, and goes on in any case
}

// heard notes what the registry said last.
func (r *round) heard(said judge.Allowance) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.saving.said = said
}

// waiting begins anew with what is to be asked for.
func (r *round) waiting() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.saving.had, r.saving.left, r.problem = len(r.saving.left) > 0, nil, nil
	return r.pending
}

// pauses reports whether the rest has to wait for the registry.
func (r *round) pauses(rest []string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.saving.may || r.saving.had || !r.saving.said.Low(time.Now()) {
		return false
	}
	r.saving.left = slices.Clone(rest)
	return len(rest) > 0
}

// pause is for how long.
func (r *round) pause(now time.Time) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.saving.left) == 0 {
		return 0
	}
	return min(r.saving.said.Until.Sub(now), mostPause)
}
