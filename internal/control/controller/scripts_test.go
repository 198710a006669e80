package controller

import (
	"context"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	deckhousev1alpha1 "github.com/d8-registry/registry/api/deckhouse/v1alpha1"
	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/control/cluster"
	"github.com/d8-registry/registry/internal/control/scripts"
	"github.com/d8-registry/registry/test/harness/apiserver"
	"github.com/d8-registry/registry/test/harness/installation"
)

func scriptFor(groups, bundles []string) *deckhousev1alpha1.NodeGroupConfiguration {
	return &deckhousev1alpha1.NodeGroupConfiguration{
		ObjectMeta: metav1.ObjectMeta{Name: "script", Generation: 2},
		Spec:       deckhousev1alpha1.NodeGroupConfigurationSpec{Content: "true", NodeGroups: groups, Bundles: bundles},
	}
}

// TestScriptsOnTheAPIServer uses the controller's rights.
func TestScriptsOnTheAPIServer(t *testing.T) {
	t.Parallel()
	api := servers.Take(t)
	c := &testbed{t: t, api: api, Cluster: installation.New(t, api.Client(), timeout)}
	c.empty()
	cfg := Config{MetricsAddress: "0", HealthAddress: "0", REST: api.As(t, apiserver.Process{ServiceAccount: "registry-controller", Node: "master"})}
	mgr, err := newManager(cfg, cluster.NewClock(time.Now), c.Log())
	if err != nil {
		t.Fatal(err)
	}
	if err := scripts.Watch(mgr, false, c.Log()); err != nil {
		t.Fatal(err)
	}
	installation.Background(t, mgr.Start)

	script := scriptFor([]string{"*"}, []string{"*"})
	script.Generation = 0
	if err := c.Create(t.Context(), script); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Delete(context.WithoutCancel(t.Context()), script) })
	node := &v1alpha1.RegistryNode{ObjectMeta: metav1.ObjectMeta{Name: "scripts-1"}}
	if err := c.Create(t.Context(), node); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Delete(context.WithoutCancel(t.Context()), node) })
	is := func(want, message string) func() bool {
		return func() bool {
			if err := c.Get(t.Context(), client.ObjectKeyFromObject(script), script); err != nil {
				t.Fatal(err)
			}
			return script.Status.Nodes == want && strings.Contains(script.Status.Message, message) && script.Status.ObservedGeneration == script.Generation
		}
	}
	report := func(phase, message string) {
		node.Status.Scripts = []v1alpha1.ScriptStatus{{Name: script.Name, Generation: script.Generation, Phase: phase, Message: message}}
		if err := c.Status().Update(t.Context(), node); err != nil {
			t.Fatal(err)
		}
	}
	c.eventually("a node that has not heard of it", is("0/1", "Waiting for scripts-1"))
	report(v1alpha1.ScriptFailed, "exit status 3")
	c.eventually("a failure", is("0/1", "Failed on scripts-1. scripts-1: exit status 3"))
	report(v1alpha1.ScriptDone, "")
	c.eventually("a success", is("1/1", ""))
	before := script.ResourceVersion
	node.Status.Message = "something else"
	if err := c.Status().Update(t.Context(), node); err != nil {
		t.Fatal(err)
	}
	script.Spec.Content = "false"
	if err := c.Update(t.Context(), script); err != nil {
		t.Fatal(err)
	}
	c.eventually("a change", is("0/1", "Waiting for scripts-1"))
	report(v1alpha1.ScriptDone, "")
	c.eventually("done again", is("1/1", ""))
	if script.ResourceVersion == before {
		t.Error("nothing was written")
	}
}
