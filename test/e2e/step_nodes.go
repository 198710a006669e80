package e2e

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/test/harness/kube"
)

// nodeAdded adds a machine while the registry that the cluster was installed
// from is gone.
func (s *story) nodeAdded(ctx context.Context) error {
	began := time.Now()
	n, err := s.cluster.AddNode(ctx, kube.NodeOptions{Name: addedNode})
	if err != nil {
		return err
	}
	s.took("a new node is Ready", time.Since(began))
	return s.firstPods(ctx, n, began, "a new node")
}

// nodeReimaged makes a node's disk anew: same name, same address.
func (s *story) nodeReimaged(ctx context.Context) error {
	n, err := s.cluster.Node(reimagedNode)
	if err != nil {
		return err
	}
	s.pulls.remove(n.Name)
	if _, err := s.shell(ctx, "d8 k drain "+n.Name+" --ignore-daemonsets --delete-emptydir-data --force --timeout=3m 2>&1"); err != nil {
		return err
	}
	began := time.Now()
	if err := n.Reimage(ctx); err != nil {
		return err
	}
	if err := s.cluster.WaitNode(ctx, n.Name); err != nil {
		return err
	}
	s.took("the re-imaged node is Ready", time.Since(began))
	if _, err := s.shell(ctx, "d8 k uncordon "+n.Name); err != nil {
		return err
	}
	return s.firstPods(ctx, n, began, "the re-imaged node")
}

// firstPods waits for a node's agent and for its first pod of the platform, and
// has the node pull from then on.
func (s *story) firstPods(ctx context.Context, n *kube.Node, began time.Time, what string) error {
	if err := s.prepareNode(ctx, n); err != nil {
		return err
	}
	for _, pod := range []struct{ namespace, app, what string }{
		{system, "registry-agent", "the agent of " + what + " runs"},
		{"d8-platform", "logger", "the first platform pod of " + what + " runs"},
	} {
		if err := s.podOn(ctx, n.Name, pod.namespace, pod.app, began); err != nil {
			return err
		}
		s.took(pod.what, time.Since(began))
	}
	s.pulls.add(n) //nolint:contextcheck // it pulls until the story's end
	if err := s.enough(ctx, fewest); err != nil {
		return err
	}
	s.expect("no kubelet failed to pull an image of the platform", s.kubeletExpect(ctx))
	_, err := s.shell(ctx, "d8 k get registrynodes; d8 k get pods -A -o wide --field-selector spec.nodeName="+n.Name)
	return err
}

// podOn waits for a pod of an app that is Ready on a node and was started there
// after a moment.
func (s *story) podOn(ctx context.Context, node, namespace, app string, after time.Time) error {
	return until(ctx, fmt.Sprintf("a pod of %s on %s", app, node), 5*time.Minute, func(ctx context.Context) error {
		pods, err := s.podsOf(ctx, namespace, app)
		if err != nil {
			return err
		}
		err = errors.New("there is none")
		for i := range pods {
			p := &pods[i]
			if p.Spec.NodeName != node || p.DeletionTimestamp != nil {
				continue
			}
			err = fmt.Errorf("%s is %s", p.Name, p.Status.Phase)
			fresh := len(p.Status.ContainerStatuses) > 0
			for _, c := range p.Status.ContainerStatuses {
				fresh = fresh && c.State.Running != nil && !c.State.Running.StartedAt.Time.Before(after.Truncate(time.Second))
				if w := c.State.Waiting; w != nil {
					err = fmt.Errorf("%s: %s: %s", p.Name, w.Reason, w.Message)
				}
			}
			if fresh && podReady(p) {
				return nil
			}
		}
		return err
	})
}

// upgrade brings the second version, by Helm.
func (s *story) upgrade(ctx context.Context) error {
	if err := s.noted(ctx); err != nil {
		return err
	}
	began := time.Now()
	if err := s.helm(ctx, "upgrade", "registry", s.cluster.Chart(), "-n", system, "--reset-then-reuse-values", "--set", "image="+kube.ModuleRepository+":"+versionSecond, "--wait", "--timeout", "5m"); err != nil {
		return err
	}
	return s.allRun(ctx, versionSecond, began)
}

// rollback goes back to the first.
func (s *story) rollback(ctx context.Context) error {
	if err := s.noted(ctx); err != nil {
		return err
	}
	began := time.Now()
	if err := s.helm(ctx, "rollback", "registry", "-n", system, "--wait", "--timeout", "5m"); err != nil {
		return err
	}
	return s.allRun(ctx, versionFirst, began)
}

func (s *story) helm(ctx context.Context, args ...string) error {
	s.out.say("$ helm %s", strings.ReplaceAll(strings.Join(args, " "), s.cluster.Chart(), "charts/registry"))
	out, err := s.cluster.Helm(ctx, args...)
	s.out.output(out)
	return err
}

// allRun waits until every agent is of a version and looks at what an upgrade
// must not touch.
func (s *story) allRun(ctx context.Context, version string, began time.Time) error {
	err := until(ctx, "agents of "+version, readyWithin, func(ctx context.Context) error {
		var nodes v1alpha1.RegistryNodeList
		if err := s.client.List(ctx, &nodes); err != nil {
			return err
		}
		if len(nodes.Items) != len(s.nodes()) {
			return fmt.Errorf("there are %d RegistryNodes", len(nodes.Items))
		}
		for _, n := range nodes.Items {
			if strings.TrimPrefix(n.Status.AgentVersion, "v") != strings.TrimPrefix(version, "v") {
				return fmt.Errorf("the agent of %s is %s", n.Name, n.Status.AgentVersion)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	if err := s.cluster.WaitAgents(ctx); err != nil {
		return err
	}
	s.took("every agent is "+version, time.Since(began))
	if err := s.enough(ctx, fewest); err != nil {
		return err
	}
	now, err := s.look(ctx)
	if err != nil {
		return err
	}
	platform := map[string]podFact{}
	for name, f := range s.before.pods {
		if !strings.HasPrefix(name, "d8-system/registry-") {
			platform[name] = f
		}
	}
	s.expect(fmt.Sprintf("none of %d other pods was restarted", counted(platform)), samePods(platform, now.pods))
	s.expectRestarts("no containerd was restarted", s.before, now, map[string]int{})
	st, err := s.readStatus(ctx)
	if err != nil {
		return err
	}
	s.expect("Direct and Ready", unless(st.is("Ready", metav1.ConditionTrue) && st.Mode == "Direct", "%s: %s", st.Mode, st.waitingFor()))
	return nil
}
