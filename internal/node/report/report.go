package report

import (
	"fmt"
	"slices"
	"strings"
	"time"

	registryv1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
)

// tolerance is how long the other half or containerd may be silent before the
// report says so. A restart takes less.
const tolerance = 10 * time.Second

// Report is what one pass found. The zero Report of a test has no memory.
type Report struct {
	// Own is the RegistryNode as it was when the pass began; nil if there is none.
	Own *registryv1alpha1.RegistryNode
	// Status is what is reported. Finish adds what is proved, the message and the
	// warnings.
	Status registryv1alpha1.RegistryNodeStatus
	// Hold says that nothing is written this time: what was found may be over in
	// a moment.
	Hold bool
	// Retry says that the pass did not come to its end, so that the next one
	// follows soon.
	Retry bool
	// Again says that containerd was restarted in this pass. What was found before
	// is of no use: nothing is written, and the next pass follows at once.
	Again bool

	problems []string
	memory   *memory
}

// memory is what lasts longer than a pass.
type memory struct {
	proved LastProved
	since  map[string]time.Time // when a tolerated problem began
	now    func() time.Time
}

// LastProved is what the node last said that it had proved, and still has. The
// zero value is nothing.
type LastProved struct {
	Generation int64
	Version    string
	Names      []string // of that generation
}

// Problemf adds a sentence to the status message.
func (r *Report) Problemf(format string, args ...any) {
	r.problems = append(r.problems, fmt.Sprintf(format, args...))
}

// Problems are the sentences up to now.
func (r *Report) Problems() []string { return r.problems }

// Warn adds sentences about what works, but not as somebody may expect.
func (r *Report) Warn(sentences ...string) {
	r.Status.Warnings = append(r.Status.Warnings, sentences...)
}

// Proved is what the node has proved up to now.
func (r *Report) Proved() LastProved { return r.memory.proved }

// Prove notes that the node has proved a generation.
func (r *Report) Prove(p LastProved) { r.memory.proved = p }

// Disprove takes back whatever the node had proved.
func (r *Report) Disprove() { r.memory.proved = LastProved{} }

// Tolerated reports whether a problem began so recently that it may be a
// restart. Over must follow when the problem is gone.
func (r *Report) Tolerated(problem string) bool {
	began, known := r.memory.since[problem]
	if !known {
		began = r.memory.now()
		r.memory.since[problem] = began
	}
	return r.memory.now().Sub(began) < tolerance
}

// Over forgets a problem that was Tolerated.
func (r *Report) Over(problem string) { delete(r.memory.since, problem) }

// KeepRestart repeats what was last reported about a restart, for a pass that
// could not look after it.
func (r *Report) KeepRestart() {
	if r.Own != nil && r.sameBoot() {
		r.Status.Restart = r.Own.Status.Restart
	}
}

// sameBoot reports whether what is in the RegistryNode is about this boot of
// this node.
func (r *Report) sameBoot() bool {
	return r.Own.Status.NodeUID == NodeUID(r.Own) && r.Own.Status.BootID == r.Status.BootID
}

// adopt continues the report of the agent that ran here before, if it is about
// this boot of this node.
func (r *Report) adopt() {
	s := r.Own.Status
	if r.memory.proved.Generation > 0 || s.Generation == 0 || !r.sameBoot() {
		return
	}
	p := LastProved{Generation: s.Generation, Version: s.Version}
	for _, redirect := range s.Redirects {
		if redirect.Proved {
			p.Names = append(p.Names, redirect.Name)
		}
	}
	r.Prove(p)
}

// complete adds what was proved, and the sentences.
func (r *Report) complete() {
	proved := r.Proved()
	r.Status.Generation, r.Status.Version = proved.Generation, proved.Version
	r.Status.Message = strings.Join(r.problems, "; ")
	r.Status.Warnings = distinct(r.Status.Warnings)
}

// distinct keeps each warning once, and no more than a RegistryNode takes.
func distinct(warnings []string) []string {
	var out []string
	for _, w := range warnings {
		if !slices.Contains(out, w) && len(out) < registryv1alpha1.MostWarnings {
			out = append(out, w)
		}
	}
	return out
}

// NodeUID is the UID of the Node that owns the RegistryNode; empty if it is not
// known. An agent may not read Nodes.
func NodeUID(own *registryv1alpha1.RegistryNode) string {
	if own == nil {
		return ""
	}
	for _, o := range own.OwnerReferences {
		if o.Kind == "Node" {
			return string(o.UID)
		}
	}
	return ""
}
