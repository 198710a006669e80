package switchover

import (
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	names "github.com/d8-registry/registry/api/registry/v1alpha1"
)

// report writes the conditions, in the plan's order and Ready last. Verdicts
// are those of the first reached steps and of the one that waits.
func (x *evaluation) report(plan []step, verdicts []verdict, reached int) {
	var conditions []metav1.Condition
	allTrue := true
	for i, step := range plan {
		stored := x.s.condition(step.name)
		switch {
		case i <= reached:
			conditions = append(conditions, x.conditionOf(step.name, verdicts[i]))
		case stored == nil:
			continue // not spoken of before it is reached
		case stored.Status == metav1.ConditionTrue && step.name == names.ConditionPreflight:
			conditions = append(conditions, *stored) // it is about nodes, not about this target
		default:
			conditions = append(conditions, x.conditionOf(step.name, wait("Waiting for "+plan[reached].name)))
		}
	}
	for _, c := range conditions {
		allTrue = allTrue && c.Status == metav1.ConditionTrue
	}
	x.s.Conditions = append(conditions, x.ready(allTrue && reached == len(plan)))
}

// conditionOf is a step's condition. Its time moves only when its status does.
func (x *evaluation) conditionOf(name string, v verdict) metav1.Condition {
	c := metav1.Condition{Type: name, Status: metav1.ConditionFalse, Reason: names.ReasonProcessing, Message: v.message}
	if v.done {
		c.Status, c.Reason = metav1.ConditionTrue, ""
		if name == names.ConditionImages {
			c.Reason = names.ReasonReady
		}
	}
	return x.timed(c)
}

func (x *evaluation) timed(c metav1.Condition) metav1.Condition {
	// A change of mode drops the conditions of the old one.
	if stored := x.s.condition(c.Type); stored != nil && stored.Status == c.Status {
		c.LastTransitionTime = stored.LastTransitionTime
		return c
	}
	c.LastTransitionTime = metav1.NewTime(x.w.Now).Rfc3339Copy()
	return c
}

// ready is the overall state, with what the user should know in any case.
func (x *evaluation) ready(all bool) metav1.Condition {
	c := metav1.Condition{Type: names.ConditionReady, Status: metav1.ConditionFalse, Reason: names.ReasonProcessing}
	var lines []string
	left := x.misplaced()
	switch {
	case !all:
		lines = append(lines, "Transitioning to "+string(x.s.Target.Mode))
	case len(left) > 0 && !x.untouched():
		lines = append(lines, misplacedMessage(x.s.Target.Name(), left))
	default:
		c.Status, c.Reason = metav1.ConditionTrue, ""
	}
	if restarts := strings.TrimSuffix(x.restartsMessage(), "\n"); all && restarts != "" {
		lines = append(lines, restarts) // of nodes that came later; else a step tells
	}
	if len(x.s.Excluded) > 0 {
		lines = append(lines, excludedMessage(x.s.Excluded))
	}
	if x.w.Spec.Mode == "" && x.w.Spec.Problem != "" {
		lines = append(lines, x.w.Spec.Problem)
	}
	c.Message = strings.Join(lines, "\n")
	return x.timed(c)
}

// reportUnreadable is what to say when going on would be guessing.
func (x *evaluation) reportUnreadable(problem string) {
	c := metav1.Condition{
		Type: names.ConditionReady, Status: metav1.ConditionFalse, Reason: names.ReasonProcessing, Message: problem,
	}
	c = x.timed(c)
	x.s.Conditions = append(slices.DeleteFunc(slices.Clone(x.s.Conditions), func(o metav1.Condition) bool {
		return o.Type == names.ConditionReady
	}), c)
}

// reportUnknown is what to say when nothing names a registry.
func (x *evaluation) reportUnknown() {
	c := metav1.Condition{
		Type: names.ConditionReady, Status: metav1.ConditionFalse, Reason: names.ReasonProcessing,
		Message: "The registry of this cluster is not known: " +
			orElse(x.w.InstallationProblem, "Secret "+names.Namespace+"/"+names.SecretRegistry+" is missing") +
			". Nothing is published. Restore that Secret with the real registry's address and credentials, " +
			"or name the registry in ModuleConfig " + names.ModuleConfigName + " (spec.settings.registry.direct).",
	}
	x.s.Conditions = []metav1.Condition{x.timed(c)}
}

// messageOf is the message of a passed step, as stored.
func (x *evaluation) messageOf(step string) string {
	if c := x.s.condition(step); c != nil && c.Status == metav1.ConditionTrue {
		return c.Message
	}
	if c := x.s.Checked; step == names.ConditionImages && c != nil && c.Registry == x.s.Target.Upstream.Host {
		return allCheckedMessage(c.Registry, c.Items)
	}
	return ""
}

// astray are the workloads that we may re-point and that name another base
// than the target's.
func (x *evaluation) misplaced() []Reference {
	var left []Reference
	for _, r := range x.w.Census.References {
		if r.Movable && !r.OwnWorkload && r.Name != x.s.Target.Name() {
			left = append(left, r)
		}
	}
	return left
}

func orElse(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}
