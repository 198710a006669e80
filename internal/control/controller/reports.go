package controller

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/control/cluster"
	"github.com/d8-registry/registry/internal/control/state"
	"github.com/d8-registry/registry/internal/foreign"
)

// reports tells users what is not in conditions: by Events, the log and Module
// registry. It remembers what it said, so that nothing is said twice.
type reports struct {
	cluster *cluster.Client
	problem string          // why the last apply failed, for users
	cut     string          // that texts of the state were cut, for users
	owner   string          // the object of somebody else that was logged
	warned  map[string]bool // Events that were made
	metrics identity
}

// problemOf is an error as users may read it: what was tried, and the API server's
// reason in one word. Its full answer may quote a secret that we sent, unless the
// error says that it does not.
func problemOf(err error) string {
	var several interface{ Unwrap() []error }
	if errors.As(err, &several) {
		var lines []string
		for _, err := range several.Unwrap() {
			if line := problemOf(err); line != "" {
				lines = append(lines, line)
			}
		}
		return strings.Join(lines, "\n")
	}
	if public := (state.Public{}); errors.As(err, &public) {
		return foreign.Line(err.Error(), foreign.Sentence)
	}
	var status apierrors.APIStatus
	if err == nil || errors.Is(err, cluster.ErrLost) || !errors.As(err, &status) {
		return ""
	}
	tried, _, _ := strings.Cut(err.Error(), status.Status().Message)
	return tried + string(status.Status().Reason)
}

// belongsToAnother reports whether objects with our names have another owner: a
// platform with a registry module of its own. Nothing is changed then.
func (r *reports) belongsToAnother(stored state.Stored, v *state.View) bool {
	var found []string
	look := func(kind string, there bool, o client.Object) {
		if there && !cluster.IsOurs(o) {
			found = append(found, kind+" "+cluster.Key(o))
		}
	}
	proxy, service := v.Inventory.OwnWorkload("Deployment", v1alpha1.DeploymentProxy), v.OwnService(v1alpha1.ServiceRegistry)
	look("Secret", stored.Secret != nil, stored.Secret)
	look("Secret", v.Layout != nil, v.Layout)
	look("Deployment", proxy != nil, proxy)
	look("Service", service != nil, service)
	if len(found) == 0 {
		r.owner = ""
		return false
	}
	if told := found[0]; r.owner != told {
		r.owner = told
		r.cluster.Log.Error("objects with the names of ours belong to somebody else; the controller does nothing", "objects", found,
			"label", v1alpha1.LabelManagedBy+"="+v1alpha1.ManagedBy)
	}
	return true
}

// announce logs, and makes an Event for, each condition that changed its status.
func (r *reports) announce(before, after []metav1.Condition) {
	for _, c := range after {
		was := slices.IndexFunc(before, func(b metav1.Condition) bool { return b.Type == c.Type })
		if was >= 0 && before[was].Status == c.Status || was < 0 && c.Status != metav1.ConditionTrue {
			continue
		}
		r.cluster.Log.Info("condition changed", "step", c.Type, "status", string(c.Status))
		r.cluster.Events.Normalf(moduleReference(), c.Type, "%s is %s", c.Type, c.Status)
	}
}

// rotated makes an Event for each rotation that has moved on.
func (r *reports) rotated(all []state.Rotation) {
	for _, rotation := range all {
		words := map[state.Phase]string{
			state.Accepting: "begins: the in-cluster proxy learns a new password", state.Given: "all are given the new one, the old one stays good",
			state.Signing: "the in-cluster proxy gets a certificate of the new CA", "": "has ended: the old one is refused",
		}
		r.cluster.Events.Normalf(moduleReference(), "Rotation", "Rotation of Secret %s: %s", rotation.Of, words[rotation.Phase])
	}
}

// warn makes Events for what is not in conditions, because conditions are about the
// switch. Of gets a function that reports whether its arguments were not seen in
// the pass before: each Event is made once.
func (r *reports) warn(of func(first func(...any) bool)) {
	still := map[string]bool{}
	of(func(words ...any) bool {
		id := fmt.Sprint(words...)
		still[id] = true
		return !r.warned[id]
	})
	r.warned = still
}
