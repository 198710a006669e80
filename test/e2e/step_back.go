package e2e

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/d8-registry/registry/test/harness/machine"
)

// unmanagedAgain switches to Unmanaged, on the registry of the mode before.
func (s *story) unmanagedAgain(ctx context.Context) error {
	if _, err := s.showStatus(ctx, 172); err != nil {
		return err
	}
	if err := s.noted(ctx); err != nil {
		return err
	}
	if err := s.apply(ctx, docManage, 187); err != nil {
		return err
	}
	if err := s.ready(ctx, "Unmanaged"); err != nil {
		return err
	}
	if _, err := s.showStatus(ctx, 202); err != nil {
		return err
	}
	if err := s.noInternalRegistry(ctx); err != nil {
		return err
	}
	secret, err := s.secret(ctx, "deckhouse-registry")
	if err != nil {
		return err
	}
	address := string(secret.Data["address"]) + string(secret.Data["path"])
	s.expect("deckhouse-registry is the registry of the mode before", unless(address == s.b().Base(), "it is %s", address))
	now, err := s.look(ctx)
	if err != nil {
		return err
	}
	s.expect("Deckhouse was restarted", s.otherPod(s.before, now, "d8-system/deckhouse-"))
	s.expectRestarts("no containerd was restarted", s.before, now, map[string]int{})
	if err := s.mirrorAuthOn(ctx); err != nil {
		return err
	}
	return s.ownersFollow(ctx)
}

// ownersFollow does what is left to the owners of workloads that a switch must
// not restart. While a pod needs another name than the registry's own, the
// layout stays: the controller would bring it back.
func (s *story) ownersFollow(ctx context.Context) error {
	if _, err := s.shell(ctx, "d8 k -n d8-platform rollout resume deployment/paused; d8 k -n d8-platform delete pod -l app=ondelete"); err != nil {
		return err
	}
	err := until(ctx, "pods that name B alone", 3*time.Minute, func(ctx context.Context) error {
		pods, err := s.podFacts(ctx)
		if err != nil {
			return err
		}
		for name, f := range pods {
			for _, image := range f.images {
				if strings.HasPrefix(image, s.a().Base()) || strings.HasPrefix(image, fixedName) {
					return fmt.Errorf("%s names %s", name, image)
				}
			}
		}
		return nil
	})
	s.expect("the owners' part: no pod names another registry any more", err)
	return errors.Join(err, s.enough(ctx, fewest))
}

// legacy deletes the layout, as the documents say.
func (s *story) legacy(ctx context.Context) error {
	if _, err := s.showStatus(ctx, 318); err != nil {
		return err
	}
	// What only retained revisions name nobody may roll back to from here on.
	s.pulls.only(s.b().Base())
	if err := s.noted(ctx); err != nil {
		return err
	}
	began := time.Now()
	if _, err := s.run(ctx, docManage, 333); err != nil {
		return err
	}
	for _, kind := range []string{"FinalContainerdConfigReady", "Ready"} {
		s.expect(kind+" is False while nodes go back", s.waitCondition(ctx, kind, metav1.ConditionFalse))
	}
	if err := s.waitCondition(ctx, "Ready", metav1.ConditionTrue); err != nil {
		return err
	}
	s.took("back to the legacy format", time.Since(began))
	if _, err := s.showStatus(ctx, 341); err != nil {
		return err
	}
	_, err := s.secret(ctx, "registry-bashible-config")
	s.expect("the Secret does not come back", unless(apierrors.IsNotFound(err), "it is there: %v", err))
	now, err := s.look(ctx)
	if err != nil {
		return err
	}
	s.expectRestarts("containerd was restarted once on w1, and on no other node", s.before, now, map[string]int{oldNode: 1})
	n, err := s.cluster.Node(oldNode)
	if err != nil {
		return err
	}
	dump, err := n.Run(ctx, "", "containerd", "config", "dump")
	if err != nil {
		return err
	}
	s.expect("containerd 1.x looks into no host directory any more", unless(configPath(dump) == "", "it looks into %s", configPath(dump)))
	return s.enough(ctx, fewest)
}

// legacyWorks shows what the return means for a user's own configurations.
func (s *story) legacyWorks(ctx context.Context) error {
	n, err := s.cluster.Node(oldNode)
	if err != nil {
		return err
	}
	err = n.Pull(ctx, mirrored, machine.Login{})
	s.expect("own files in registry.d do not work on containerd 1.x any more", unless(err != nil, "%s was pulled", mirrored))
	if err := s.writeLegacy(ctx, n); err != nil {
		return err
	}
	if err := s.enough(ctx, fewest); err != nil {
		return err
	}
	st, err := s.readStatus(ctx)
	if err != nil {
		return err
	}
	s.expect("a file in conf.d is accepted again", unless(st.is("Ready", metav1.ConditionTrue), "%s", st.waitingFor()))
	return nil
}

// uninstall takes away what the user brought himself, then the module.
func (s *story) uninstall(ctx context.Context) error {
	if _, err := s.shell(ctx, "d8 k delete nodegroupconfiguration custom-registry"); err != nil {
		return err
	}
	for _, n := range s.nodes() {
		script := "rm -rf /etc/containerd/registry.d/registry.io /etc/containerd/conf.d"
		if n.Name == oldNode {
			// Its registry.d was made by the user's script; 2.x had one before.
			script += "; rmdir --ignore-fail-on-non-empty /etc/containerd/registry.d"
		}
		s.out.say("%s$ %s   # what the user brought", n.Name, script)
		if _, err := n.Run(ctx, "", "sh", "-c", script); err != nil {
			return err
		}
	}
	began := time.Now()
	if err := s.helm(ctx, "uninstall", "registry", "-n", system, "--wait", "--timeout", "10m"); err != nil {
		return err
	}
	s.took("helm uninstall", time.Since(began))
	err := until(ctx, "the module's pods to be gone", time.Minute, func(ctx context.Context) error {
		pods, err := s.podFacts(ctx)
		if err != nil {
			return err
		}
		for name := range pods {
			if strings.HasPrefix(name, "d8-system/registry-") {
				return errors.New(name + " is there")
			}
		}
		return nil
	})
	s.expect("no pod of the module is left", err)
	return s.enough(ctx, fewest)
}

// sameFiles compares the nodes' files with what they were.
func (s *story) sameFiles(ctx context.Context) error {
	for _, n := range s.nodes() {
		now, err := n.Snapshot()
		if err != nil {
			return err
		}
		before, ok := s.files[n.Name]
		if !ok {
			// It came later: what a node of its kind has is known.
			before, now = below(s.files[reimagedNode], "/etc/containerd"), below(now, "/etc/containerd")
		}
		if n.Name == reimagedNode {
			// Whoever installs a machine anew gives its kubelet new credentials.
			before, now = without(before, kubeletFiles), without(now, kubeletFiles)
		}
		diff := differences(before, now)
		s.out.say("%s: %d files below /etc before, %d now, by mode and content; the diff: %s", n.Name, len(before), len(now), diffText(diff))
		s.expect("the files of "+n.Name+" are what they were", diff)
		left, err := n.Run(ctx, "", "sh", "-c", "find /var/lib/registry-agent -mindepth 1 2>/dev/null || true")
		if err != nil {
			return err
		}
		s.expect("no state of the agent is left on "+n.Name, unless(left == "", "%s", left))
	}
	return nil
}

const kubeletFiles = "/etc/kubernetes/kubelet/"

// without are the files that are not below a folder.
func without(files map[string]string, folder string) map[string]string {
	rest := maps.Clone(files)
	maps.DeleteFunc(rest, func(path, _ string) bool { return strings.HasPrefix(path, folder) })
	return rest
}

func diffText(diff error) string {
	if diff == nil {
		return "(empty)"
	}
	return diff.Error()
}

// below are the files below a folder.
func below(files map[string]string, folder string) map[string]string {
	found := maps.Clone(files)
	maps.DeleteFunc(found, func(path, _ string) bool { return !strings.HasPrefix(path, folder) })
	return found
}

// everything lists the objects of the cluster by kind and name; what the
// cluster itself makes all the time is left out.
func (s *story) everything(ctx context.Context) ([]string, error) {
	const script = `d8 k api-resources --verbs=list -o name | grep -v -e '^events' -e '^pods$' -e endpoints -e leases -e replicasets -e controllerrevisions -e '^jobs' -e ipaddresses -e apiservices |
		while read -r kind; do d8 k get "$kind" -A --no-headers --ignore-not-found -o custom-columns=NS:.metadata.namespace,NAME:.metadata.name | sed "s|^|$kind |"; done`
	out, stderr, err := s.cluster.Shell(ctx, script)
	if err != nil {
		return nil, fmt.Errorf("list everything: %w: %s", err, stderr)
	}
	var all []string
	for line := range strings.Lines(out) {
		all = append(all, strings.Join(strings.Fields(line), " "))
	}
	slices.Sort(all)
	return all, nil
}

// leftovers prints what was not there before the module was installed.
func (s *story) leftovers(ctx context.Context) error {
	now, err := s.everything(ctx)
	if err != nil {
		return err
	}
	var left, others []string
	for _, o := range now {
		if slices.Contains(s.objects, o) {
			continue
		}
		switch {
		case ofOthers(o):
			others = append(others, o)
		default:
			left = append(left, o)
		}
	}
	s.out.say("%d objects are the platform's and the client's, as before", len(others))
	for _, o := range left {
		s.out.say("left: %s", o)
	}
	var problems []string
	for _, o := range left {
		if !mayStay(o) {
			problems = append(problems, o)
		}
	}
	s.expect("nothing is left but the namespace, and what the platform goes on with", problemsOf(problems))
	labelled, err := s.cluster.Kubectl(ctx, "", "get", "secrets,configmaps,deployments,daemonsets,services", "-A", "-l", "app.kubernetes.io/managed-by=registry-controller", "-o", "name")
	s.expect("nothing has the module's label", errors.Join(err, unless(strings.TrimSpace(labelled) == "", "%s", labelled)))
	return nil
}

// ofOthers is true for what the story itself brought: the platform, its client,
// a node.
func ofOthers(object string) bool {
	for _, word := range []string{" d8-platform ", " d8-client ", " d8-platform", " d8-client", "e2e:client", " d8-system deckhouse", " d8-system images-digests", "nodes <none> " + addedNode, "csinodes.storage.k8s.io <none> " + addedNode, " kube-node-lease "} {
		if strings.Contains(object, word) {
			return true
		}
	}
	return false
}

// mayStay is what an uninstallation leaves: the namespace with what the API
// server puts into each, the platform's Secret and its kinds.
func mayStay(object string) bool {
	for _, stays := range []string{
		"namespaces <none> d8-system",
		"configmaps d8-system kube-root-ca.crt", "serviceaccounts d8-system default",
		"secrets d8-system deckhouse-registry",
		"customresourcedefinitions.apiextensions.k8s.io <none> moduleconfigs.deckhouse.io",
		"customresourcedefinitions.apiextensions.k8s.io <none> modules.deckhouse.io",
		"customresourcedefinitions.apiextensions.k8s.io <none> nodegroupconfigurations.deckhouse.io",
		"moduleconfigs.deckhouse.io <none> deckhouse",
	} {
		if object == stays {
			return true
		}
	}
	return false
}
