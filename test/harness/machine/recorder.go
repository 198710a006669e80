package machine

import (
	"fmt"
	"slices"
	"sync"
	"time"
)

// Pull is one pull of an image by a node's containerd.
type Pull struct {
	Phase, Node string
	Name        string // what the reference starts with
	Reference   string
	Image       string // digest of the manifest, for pulls of the puller
	By          string // the pod it was for; empty for the puller
	At          time.Time
	Took        time.Duration
	Err         error // nil: pulled
	// Void is true for a failed pull of a name that went out of use meanwhile:
	// no pod could have asked for it any more.
	Void bool
	// Interrupted is true for a pull that failed because containerd went away;
	// Retry is what became of the next attempt, made when it was back.
	Interrupted bool
	Retry       error
}

// Recorder collects the pulls of a run, phase by phase.
type Recorder struct {
	mu    sync.Mutex
	phase string
	pulls []Pull
}

// NewRecorder starts with a phase.
func NewRecorder(phase string) *Recorder { return &Recorder{phase: phase} }

// SetPhase has what follows belong to another phase.
func (r *Recorder) SetPhase(phase string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.phase = phase
}

// Phase is the current phase.
func (r *Recorder) Phase() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.phase
}

// Pod records the pull of a pod's image.
func (r *Recorder) Pod(node, reference, pod string, err error) {
	r.Add(Pull{Node: node, Reference: reference, By: pod, At: time.Now(), Err: err})
}

// Add records a pull; without a phase it belongs to the current one.
func (r *Recorder) Add(p Pull) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if p.Phase == "" {
		p.Phase = r.phase
	}
	r.pulls = append(r.pulls, p)
}

// All are the pulls of all phases.
func (r *Recorder) All() []Pull {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.pulls)
}

// Pulls are those of a phase, in the order in which they ended.
func (r *Recorder) Pulls(phase string) []Pull {
	r.mu.Lock()
	defer r.mu.Unlock()
	var found []Pull
	for _, p := range r.pulls {
		if p.Phase == phase {
			found = append(found, p)
		}
	}
	return found
}

// Failed are the pulls of a phase that failed while their name was in use.
func (r *Recorder) Failed(phase string) []Pull {
	return slices.DeleteFunc(r.Pulls(phase), func(p Pull) bool { return p.Err == nil || p.Void })
}

// Done counts the puller's successful pulls of a phase by node and name.
func (r *Recorder) Done(phase string) map[string]map[string]int {
	done := map[string]map[string]int{}
	for _, p := range r.Pulls(phase) {
		if p.Err != nil || p.By != "" {
			continue
		}
		if done[p.Node] == nil {
			done[p.Node] = map[string]int{}
		}
		done[p.Node][p.Name]++
	}
	return done
}

// String names a pull and what became of it.
func (p Pull) String() string {
	result := "pulled"
	if p.Err != nil {
		result = p.Err.Error()
	}
	by := ""
	if p.By != "" {
		by = " for pod " + p.By
	}
	return fmt.Sprintf("%s %s %s%s after %s: %s", p.At.Format("15:04:05"), p.Node, p.Reference, by, p.Took.Round(time.Millisecond), result)
}
