package switchover

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	names "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/foreign"
)

// report writes the conditions, in the plan's order and Ready last. There are
// verdicts for the steps that are done and for the one that waits.
func (e *evaluation) report(plan []step, verdicts []verdict, reached int) {
	var conditions []metav1.Condition
	for i, step := range plan {
		stored := e.s.condition(step.name)
		switch {
		case step.silent && stored == nil && i <= reached && verdicts[i].done:
			continue // there was nothing to do
		case i <= reached:
			conditions = append(conditions, e.conditionOf(step.name, verdicts[i]))
		case stored == nil:
			continue // shown only once it is reached
		case stored.Status == metav1.ConditionTrue && step.name == names.ConditionPreflight:
			conditions = append(conditions, *stored) // it is about nodes, not about this target
		default:
			conditions = append(conditions, e.conditionOf(step.name, wait("Waiting for "+plan[reached].name)))
		}
	}
	waits := slices.ContainsFunc(conditions, func(c metav1.Condition) bool { return c.Status != metav1.ConditionTrue })
	e.s.Conditions = append(conditions, e.ready(!waits && reached == len(plan)))
}

// conditionOf is a step's condition. Its time moves only when its status does.
func (e *evaluation) conditionOf(name string, v verdict) metav1.Condition {
	c := metav1.Condition{Type: name, Status: metav1.ConditionFalse, Reason: names.ReasonProcessing, Message: foreign.Text(v.message, mostMessage)}
	if v.done {
		c.Status, c.Reason = metav1.ConditionTrue, ""
		if name == names.ConditionImages {
			c.Reason = names.ReasonReady
		}
	}
	c.LastTransitionTime = metav1.NewTime(e.seen.Now).Rfc3339Copy()
	// A change of mode drops the conditions of the old one.
	if stored := e.s.condition(name); stored != nil && stored.Status == c.Status {
		c.LastTransitionTime = stored.LastTransitionTime
	}
	return c
}

// ready is the overall state, with what the user should know in any case.
func (e *evaluation) ready(all bool) metav1.Condition {
	var lines []string
	isReady, misplaced := false, e.misplaced()
	switch {
	case !all:
		lines = append(lines, "Transitioning to "+string(e.s.Target.Mode))
	case len(misplaced) > 0 && !e.untouched():
		lines = append(lines, misplacedMessage(e.nameOf(e.s.Target), misplaced))
	default:
		isReady = true
	}
	fails := ""
	if isReady {
		fails = e.targetFails()
	}
	if fails != "" {
		isReady, lines = false, append(lines, fails)
	}
	if restarts := strings.TrimSuffix(e.restartsMessage(), "\n"); all && restarts != "" {
		lines = append(lines, restarts) // of nodes that came later; before that a step says it
	}
	if len(e.s.Excluded) > 0 {
		lines = append(lines, excludedMessage(e.s.Excluded))
	}
	if behind := e.behindMessage(); all && behind != "" {
		lines = append(lines, behind) // before that a step says it
	}
	if believed := e.believedMessage(); believed != "" {
		lines = append(lines, believed)
	}
	if e.seen.Spec.Mode == "" && e.seen.Spec.Problem != "" {
		lines = append(lines, foreign.Line(e.seen.Spec.Problem, 4*foreign.Sentence))
	}
	c := e.conditionOf(names.ConditionReady, verdict{isReady, strings.Join(lines, "\n")})
	if fails != "" {
		c.Reason = names.ReasonTargetFails
	}
	return c
}

// targetFails says where all pulls from the target fail, as those say who pull; empty
// when they do nowhere. No step depends on it.
func (e *evaluation) targetFails() string {
	target, of := e.s.Target.Upstream.String(), 0
	var on, why []string
	for _, n := range e.seen.Nodes {
		// What a dead node said last stays said, and the operator may leave one out that lies.
		if !n.Agent || !n.Ready || n.Exclude || !e.rules.valid(n) {
			continue
		}
		of++
		if n.Report.Failing == target {
			on, why = append(on, n.Name), append(why, n.Report.FailsBy)
		}
	}
	message := fmt.Sprintf("Registry %s: ", target)
	switch proxy := e.seen.Proxy; {
	case len(on) > 0:
		slices.Sort(on)
		message += fmt.Sprintf("on %d of %d nodes (%s) %s", len(on), of, strings.Join(capped(on, mostNodes), ", "), why[0])
	case proxy.Failing > 0:
		message += fmt.Sprintf("in %d of %d Pods of incluster-proxy %s", proxy.Failing, proxy.Ready, proxy.FailsBy)
	default:
		return ""
	}
	return message + ". Correct the registry, or the settings."
}

// reportUnreadable says why nothing can be decided.
func (e *evaluation) reportUnreadable(problem string) {
	others := slices.DeleteFunc(slices.Clone(e.s.Conditions), func(c metav1.Condition) bool { return c.Type == names.ConditionReady })
	e.s.Conditions = append(others, e.conditionOf(names.ConditionReady, wait(problem)))
}

// reportUnknown says that nothing names a registry.
func (e *evaluation) reportUnknown() {
	problem := "The registry of this cluster is not known: " +
		cmp.Or(foreign.Line(e.seen.InstallationProblem, 4*foreign.Sentence), "Secret "+names.Namespace+"/"+names.SecretRegistry+" is missing") +
		". Nothing is published. Restore that Secret with the real registry's address and credentials, " +
		"or name the registry in ModuleConfig " + names.ModuleConfigName + " (spec.settings.registry.direct)."
	e.s.Conditions = []metav1.Condition{e.conditionOf(names.ConditionReady, wait(problem))}
}

// messageOf is the message of a passed step, as stored.
func (e *evaluation) messageOf(step string) string {
	if c := e.s.condition(step); c != nil && c.Status == metav1.ConditionTrue {
		return c.Message
	}
	if c := e.s.Checked; step == names.ConditionImages && c != nil && c.Registry == e.s.Target.Upstream.Host {
		return allCheckedMessage(c.Registry, c.Items)
	}
	return ""
}

// learnDifferences puts into the message of the image check, once, what was found out
// about tags after it had passed.
func (e *evaluation) learnDifferences() {
	found, checked := e.seen.Compared, e.s.Checked
	c := e.s.condition(names.ConditionImages)
	if found.Differing == 0 || checked == nil || checked.Differing > 0 || checked.Fingerprint != found.Fingerprint || c == nil || c.Status != metav1.ConditionTrue {
		return
	}
	known := *checked
	known.Differing = found.Differing
	e.s.Checked = &known
	e.s.Conditions = slices.Clone(e.s.Conditions)
	e.s.condition(names.ConditionImages).Message = withLines(c.Message, differingMessage(found))
}

// misplaced are the workloads that we may re-point and that name another base
// than the target's.
func (e *evaluation) misplaced() []Reference {
	var misplaced []Reference
	want := e.nameOf(e.s.Target)
	for _, r := range e.seen.Census.References {
		if r.Movable && !r.OwnWorkload && r.Name != want {
			misplaced = append(misplaced, r)
		}
	}
	return misplaced
}
