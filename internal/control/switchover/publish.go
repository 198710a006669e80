package switchover

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	names "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/layout"
)

const stateSchema = 1

// LargeSchema is the encoding in which package state stores a State that is large. It
// reads it as one of schema 1.
const LargeSchema = 2

// ErrShrinks says that the wanted layout lacks something that is published,
// although no Final took it out. It is the last guard before a write; Advance
// never asks for such a layout.
var ErrShrinks = errors.New("the layout lacks a published name or upstream and no final step removed it")

// ErrOlder says that what is published is newer than what is wanted.
var ErrOlder = errors.New("the published layout has a higher generation")

// MayPublish reports whether the layout that a role should have may replace the
// one that was seen published for it. The error wraps ErrShrinks or ErrOlder.
func (s State) MayPublish(role Role, seen Published) error {
	want, have, shrunk := s.Desired.LayoutOf(role), seen.Layout, s.Desired.shrunkOf(role)
	switch {
	case !seen.Found || seen.Problem != "":
		return nil
	case have.Generation > want.Generation:
		return fmt.Errorf("publish generation %d over %d: %w", want.Generation, have.Generation, ErrOlder)
	case want.Covers(have), have.Generation < shrunk && shrunk <= want.Generation:
		return nil
	}
	return fmt.Errorf("publish generation %d over %d: %w", want.Generation, have.Generation, ErrShrinks)
}

// Ready reports whether condition Ready is True.
func (s State) Ready() bool {
	return meta.IsStatusConditionTrue(s.Conditions, names.ConditionReady)
}

// Reached reports whether the switch has ended and the platform is where it should
// be, also while the registry fails: that is no step's doing.
func (s State) Reached() bool {
	c := s.condition(names.ConditionReady)
	return c != nil && (c.Status == metav1.ConditionTrue || c.Reason == names.ReasonTargetFails)
}

// Newer reports whether a version newer than this one wrote the state: nothing
// may be made of what is understood of it.
func (s State) Newer() bool { return s.Schema > stateSchema }

// KnownNames are all names that workloads may have been given by us: what to
// match image references against.
func (s State) KnownNames() []layout.Name {
	known := withNames(s.Bases, s.Desired.Layout.Names()...)
	for _, t := range []Target{s.Active, s.Target} {
		if !t.IsZero() {
			known = withNames(known, t.Name(), layout.NameOf(t.Upstream))
		}
	}
	return known
}

// condition finds a condition, nil if it is not there.
func (s State) condition(name string) *metav1.Condition {
	return meta.FindStatusCondition(s.Conditions, name)
}

// settled reports whether all steps of the plan are passed.
func (s State) settled(plan []step) bool {
	return len(plan) > 0 && !slices.ContainsFunc(plan, func(step step) bool { return !s.passed(step.name) })
}

func (s State) passed(step string) bool {
	return slices.ContainsFunc(s.Passed, func(p Passed) bool { return p.Step == step })
}

// LogValue keeps slog's JSON handler from encoding credentials.
func (s State) LogValue() slog.Value {
	return slog.GroupValue(slog.Int64("generation", s.Generation), slog.Any("active", s.Active), slog.Any("target", s.Target))
}

// LogValue keeps slog's JSON handler from encoding credentials.
func (t Target) LogValue() slog.Value {
	return slog.StringValue(string(t.Mode) + " " + t.Upstream.String())
}
