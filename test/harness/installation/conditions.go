package installation

import (
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
)

// Conditions are those of Secret registry-state, by type.
type Conditions map[string]metav1.Condition

// Done reports whether a condition is True.
func (all Conditions) Done(kind string) bool { return all[kind].Status == metav1.ConditionTrue }

func (all Conditions) String() string {
	lines := make([]string, 0, len(all))
	for kind, one := range all {
		lines = append(lines, fmt.Sprintf("%s=%s %q", kind, one.Status, one.Message))
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// Conditions are none before the first pass.
func (c *Cluster) Conditions() Conditions {
	c.t.Helper()
	var secret corev1.Secret
	err := c.Get(c.t.Context(), client.ObjectKey{Namespace: v1alpha1.Namespace, Name: v1alpha1.SecretState}, &secret)
	if client.IgnoreNotFound(err) != nil {
		c.t.Fatal(err)
	}
	var list []metav1.Condition
	if err := yaml.Unmarshal(secret.Data["conditions"], &list); err != nil {
		c.t.Fatal(err)
	}
	all := Conditions{}
	for _, one := range list {
		all[one.Type] = one
	}
	return all
}

// Until waits for something to be true of the conditions. What names it in a failure.
func (c *Cluster) Until(what string, ok func(Conditions) bool) Conditions {
	c.t.Helper()
	for deadline := time.Now().Add(c.Limit); ; Pause(30 * time.Millisecond) {
		all := c.Conditions()
		if ok(all) {
			return all
		}
		if time.Now().After(deadline) {
			why := ""
			if c.Why != nil {
				why = c.Why()
			}
			c.t.Fatalf("%s: not within %v\n%v\n%s", what, c.Limit, all, why)
		}
	}
}

// Eventually waits for something else to be true.
func (c *Cluster) Eventually(what string, ok func() bool) {
	c.t.Helper()
	c.Until(what, func(Conditions) bool { return ok() })
}
