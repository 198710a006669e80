package nodescript

import (
	"slices"

	registryv1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
)

// Status is every script that concerns the node, in the order in which they run.
// known is false until node and scripts are known: until then the last report
// stays.
func (r *Runner) Status() (scripts []registryv1alpha1.ScriptStatus, known bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.status), r.known
}

// Warnings are sentences for RegistryNode's status.warnings.
func (r *Runner) Warnings() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.warnings)
}

// show replaces the status: all scripts of the plan are in that phase.
func (r *Runner) show(p plan, phase string) {
	status := make([]registryv1alpha1.ScriptStatus, 0, len(p.scripts))
	for _, s := range p.scripts {
		status = append(status, registryv1alpha1.ScriptStatus{Name: s.name, Generation: s.generation, Phase: phase})
	}
	r.edit(func() bool {
		same := r.known && slices.Equal(r.status, status) && slices.Equal(r.warnings, p.warnings)
		r.status, r.known, r.warnings = status, true, p.warnings
		return !same
	})
}

// edit calls Changed if the edit, which is made with the lock held, was one.
func (r *Runner) edit(edit func() (changed bool)) {
	r.mu.Lock()
	changed := edit()
	r.mu.Unlock()
	if changed {
		r.cfg.Changed()
	}
}

// refresh takes over the parts of a plan that need no new run: warnings and
// generations.
func (r *Runner) refresh() {
	p, _, known := r.plan()
	if !known {
		return
	}
	r.edit(func() bool {
		changed := !slices.Equal(r.warnings, p.warnings)
		r.warnings = p.warnings
		for i := range r.status {
			at := slices.IndexFunc(p.scripts, func(s script) bool { return s.name == r.status[i].Name })
			if at >= 0 && r.status[i].Generation != p.scripts[at].generation {
				r.status[i].Generation, changed = p.scripts[at].generation, true
			}
		}
		return changed
	})
}

// set changes the phase of one script.
func (r *Runner) set(s script, phase, message string) {
	r.update(s, func(o *registryv1alpha1.ScriptStatus) { o.Phase, o.Message = phase, message })
}

// started shows that a script runs, unless it failed or was done before, which
// matters more.
func (r *Runner) started(s script) {
	r.update(s, func(o *registryv1alpha1.ScriptStatus) {
		if o.Phase == registryv1alpha1.ScriptPending {
			o.Phase = registryv1alpha1.ScriptRunning
		}
	})
}

func (r *Runner) update(s script, edit func(*registryv1alpha1.ScriptStatus)) {
	r.edit(func() bool {
		at := slices.IndexFunc(r.status, func(o registryv1alpha1.ScriptStatus) bool { return o.Name == s.name })
		if at < 0 {
			return false
		}
		before := r.status[at]
		edit(&r.status[at])
		return r.status[at] != before
	})
}
