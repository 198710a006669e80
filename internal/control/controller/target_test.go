package controller

import (
	"context"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/control/cluster"
	"github.com/d8-registry/registry/internal/control/switchover"
)

// TestATargetThatFailsShowsInReady: what an agent reports of the target, and what the
// in-cluster proxy says on its Pod, come to Ready with the reason, and go from it
// again. What they say of another registry does not count.
func TestATargetThatFailsShowsInReady(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.start(nil)
	c.switchTo(c.upstreamA())
	published := c.secret(v1alpha1.SecretLayout).ResourceVersion
	const other = "https://old.example.com/d8" // does not count
	target := c.upstreamA().String()
	c.reportsFailing("worker", other)
	c.proxySays(other + ": pulls from it fail: gone")
	for _, tc := range []struct {
		fails, works func()
		want         string
	}{
		{
			func() { c.reportsFailing("worker", target) }, func() { c.reportsFailing("worker", other) },
			"Registry " + target + ": on 1 of 2 nodes (worker) pulls from it fail: a web page. ",
		},
		{
			func() { c.proxySays(target + ": pulls from it fail: 503") }, func() { c.proxySays(other + ": pulls from it fail: gone") },
			"Registry " + target + ": in 1 of 1 Pods of incluster-proxy pulls from it fail: 503. ",
		},
	} {
		tc.fails()
		v := c.until("Ready says it", func(v view) bool { return v.condition(v1alpha1.ConditionReady).Reason == v1alpha1.ReasonTargetFails })
		if ready := v.condition(v1alpha1.ConditionReady); ready.Status != metav1.ConditionFalse || !strings.Contains(ready.Message, tc.want) {
			t.Errorf("Ready is %s: %q, want %q", ready.Status, ready.Message, tc.want)
		}
		c.wantModule("Reconciling", "True", "False")
		tc.works()
		c.reaches(switchover.Direct, c.upstreamA())
	}
	if c.secret(v1alpha1.SecretLayout).ResourceVersion != published {
		t.Error("the layout was written")
	}
}

// reportsFailing lets an agent report that all pulls from a registry fail.
func (c *testbed) reportsFailing(node, registry string) {
	c.t.Helper()
	c.retried(func(ctx context.Context) error {
		rn := c.registryNode(node)
		rn.Status.Upstreams = []v1alpha1.UpstreamStatus{{Registry: registry, Reached: true, Failing: true, Message: "pulls from it fail: a web page"}}
		return c.Status().Update(ctx, rn)
	})
}

// proxySays lets the in-cluster proxy say that a registry fails.
func (c *testbed) proxySays(fails string) {
	c.t.Helper()
	c.retried(func(ctx context.Context) error {
		var pods corev1.PodList
		if err := c.List(ctx, &pods, client.InNamespace(v1alpha1.Namespace), client.MatchingLabels{"app": v1alpha1.DeploymentProxy}); err != nil {
			return err
		}
		cluster.SetAnnotation(&pods.Items[0], v1alpha1.AnnotationTargetFails, fails)
		return c.Update(ctx, &pods.Items[0])
	})
}

// retried writes until nobody else did meanwhile.
func (c *testbed) retried(write func(context.Context) error) {
	c.t.Helper()
	c.eventually("it is written", func() bool {
		err := write(c.t.Context())
		if err != nil && !apierrors.IsConflict(err) {
			c.t.Fatal(err)
		}
		return err == nil
	})
}
