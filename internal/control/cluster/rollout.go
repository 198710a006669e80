package cluster

// Rollout is what a rollout waits for. It is decided here alone; who shows it
// has the words.
type Rollout int

// What a rollout may wait for, in the order in which it is asked.
const (
	RolloutDone         Rollout = iota
	RolloutUnobserved           // the controller of its kind has not seen the template
	RolloutRefused              // Pods cannot be made
	RolloutNotUpdated           // fewer Pods than needed are of the new template
	RolloutOutdated             // more Pods than tolerated are of an old one
	RolloutNotAvailable         // fewer Pods than needed are available
)

// Need is what it takes for a rollout to be done.
type Need struct {
	Updated, Available int
	// Outdated is how many outdated Pods are tolerated.
	Outdated int
}

// RolloutOf says what the workload's rollout misses of the need.
func (w Workload) RolloutOf(need Need) Rollout {
	c := w.Pods
	switch {
	case w.Unobserved:
		return RolloutUnobserved
	case c.Refused != "" && (c.Updated < need.Updated || c.Available < need.Available):
		return RolloutRefused
	case c.Updated < need.Updated:
		return RolloutNotUpdated
	case c.Outdated > need.Outdated:
		return RolloutOutdated
	case c.Available < need.Available:
		return RolloutNotAvailable
	}
	return RolloutDone
}
