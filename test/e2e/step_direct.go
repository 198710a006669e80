package e2e

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/d8-registry/registry/test/harness/machine"
)

// directA waits for the end of the first switch and looks at what it changed.
func (s *story) directA(ctx context.Context) error {
	if err := s.ready(ctx, "Direct"); err != nil {
		return err
	}
	printed, err := s.showStatus(ctx, 121)
	if err != nil {
		return err
	}
	s.compareConditions(printed, s.a().Host)
	now, err := s.look(ctx)
	if err != nil {
		return err
	}
	s.expectRestarts("containerd was restarted once on w1, and on no other node", s.before, now, map[string]int{oldNode: 1})
	s.expect("Deckhouse was restarted", s.otherPod(s.before, now, "d8-system/deckhouse-"))
	s.expectFixed(now)
	if err := s.mirrorAuthOn(ctx); err != nil {
		return err
	}
	if err := s.fixedAddress(ctx); err != nil {
		return err
	}
	if err := s.proxyOfMasters(ctx); err != nil {
		return err
	}
	s.before = now
	if err := s.enough(ctx, 2*fewest); err != nil {
		return err
	}
	return s.pulledDirectly(ctx)
}

// otherPod is an error if the pods with a prefix are the same as before.
func (s *story) otherPod(before, now facts, prefix string) error {
	found := false
	for name := range now.pods {
		if !strings.HasPrefix(name, prefix) {
			continue
		}
		found = true
		if _, same := before.pods[name]; same {
			return fmt.Errorf("%s is the same pod", name)
		}
	}
	return unless(found, "there is none")
}

// expectFixed demands that the platform's pods name the fixed address. It prints
// those that only their owner may restart.
func (s *story) expectFixed(now facts) {
	var others []string
	fixed := 0
	for name, f := range now.pods {
		if !strings.HasPrefix(name, "d8-platform/") || strings.HasPrefix(f.owner, "Job ") {
			continue
		}
		for _, image := range f.images {
			switch {
			case strings.HasPrefix(image, fixedName):
				fixed++
			case strings.HasPrefix(name, "d8-platform/ondelete-"), strings.HasPrefix(name, "d8-platform/paused-"):
				s.out.say("%s is its owner's to replace and still names %s", name, image)
			default:
				others = append(others, name+": "+image)
			}
		}
	}
	slices.Sort(others)
	s.expect(fmt.Sprintf("%d containers of the platform name the fixed address", fixed), errors.Join(problemsOf(others), unless(fixed > 0, "none does")))
}

// mirrorAuthOn looks at containerd's own word on the node of 1.x.
func (s *story) mirrorAuthOn(ctx context.Context) error {
	n, err := s.cluster.Node(oldNode)
	if err != nil {
		return err
	}
	dump, err := n.Run(ctx, "", "containerd", "config", "dump")
	if err != nil {
		return err
	}
	s.expect("containerd 1.x has Mirror Auth", unless(configPath(dump) == "/etc/containerd/registry.d" && !strings.Contains(dump, ".registry.mirrors."), "config_path is %q", configPath(dump)))
	return nil
}

// fixedAddress looks at what components read.
func (s *story) fixedAddress(ctx context.Context) error {
	secret, err := s.secret(ctx, "deckhouse-registry")
	if err != nil {
		return err
	}
	address := string(secret.Data["address"]) + string(secret.Data["path"])
	s.expect("deckhouse-registry is the fixed address", unless(address == fixedName, "it is %s", address))
	return nil
}

// proxyOfMasters looks at the in-cluster proxy.
func (s *story) proxyOfMasters(ctx context.Context) error {
	if _, err := s.shell(ctx, "d8 k -n d8-system get service/registry deployment/registry-incluster-proxy"); err != nil {
		return err
	}
	pods, err := s.podsOf(ctx, system, "registry-incluster-proxy")
	if err != nil {
		return err
	}
	var problems []string
	for _, p := range pods {
		if p.Spec.NodeName != "m0" {
			problems = append(problems, p.Name+" is on "+p.Spec.NodeName)
		}
		for _, v := range p.Spec.Volumes {
			if v.EmptyDir != nil || v.HostPath != nil || v.PersistentVolumeClaim != nil {
				problems = append(problems, p.Name+" has a disk: "+v.Name)
			}
		}
		if sc := p.Spec.Containers[0].SecurityContext; sc == nil || sc.ReadOnlyRootFilesystem == nil || !*sc.ReadOnlyRootFilesystem {
			problems = append(problems, p.Name+" may write to its root")
		}
	}
	s.expect("the proxy is on the masters and keeps nothing", errors.Join(problemsOf(problems), unless(len(pods) > 0, "there is no pod")))
	return nil
}

// pulledDirectly reads A's log: each pull since the last look was sent by it, to
// the nodes themselves, and to the proxy for the client pod.
func (s *story) pulledDirectly(ctx context.Context) error {
	pods, err := s.podsOf(ctx, system, "registry-incluster-proxy")
	if err != nil {
		return err
	}
	proxies := map[string]bool{}
	for _, p := range pods {
		proxies[p.Status.PodIP] = true
	}
	sent, err := s.a().Log.Downloads()
	if err != nil {
		return err
	}
	by := map[string]int{}
	for _, d := range sent[s.before.downloads[0]:] {
		switch node := s.nodeOf(d); {
		case node != "":
			by[node]++
		case proxies[d.Client]:
			by["proxy"]++
		default:
			by["others"]++
		}
	}
	pulled := 0
	for _, pull := range s.pulls.recorder.Pulls(s.now.phase) {
		if pull.Err == nil && pull.At.After(s.before.at) {
			pulled++
		}
	}
	const blobsOfAnImage = 2
	nodes := 0
	for _, n := range s.nodes() {
		nodes += by[n.Name]
	}
	s.out.say("%d pulls of nodes since the last look; blobs sent by A: %v", pulled, by)
	s.expect("A sent every pull of a node to that node itself: nothing is kept", unless(nodes >= pulled*blobsOfAnImage, "%d blobs for %d pulls", nodes, pulled))
	s.expect("the client pod pulls through the proxy", unless(by["proxy"] > 0 && by["others"] == 0, "%v", by))
	return nil
}

// refusedInDirect tries what must not be possible now.
func (s *story) refusedInDirect(ctx context.Context) error {
	if err := s.noted(ctx); err != nil {
		return err
	}
	out, err := s.cluster.Helm(ctx, "uninstall", "registry", "-n", system, "--timeout", "2m")
	s.out.output(out)
	s.expect("helm uninstall is refused", unless(err != nil, "it went through"))
	if err != nil {
		s.out.say("%s", err.Error())
	}
	// Helm has marked the release all the same; docs/install.md says what to do.
	if err := s.helm(ctx, "rollback", "registry", "1", "-n", system, "--wait", "--timeout", "5m"); err != nil {
		return err
	}
	_, err = s.cluster.Kubectl(ctx, "", "delete", "moduleconfig", "deckhouse")
	s.expect("deleting ModuleConfig deckhouse is refused", refused(err, "Set mode 'Unmanaged' first"))
	old, err := s.secret(ctx, "registry-bashible-config")
	if err != nil {
		return err
	}
	if _, err := s.shell(ctx, "d8 k -n d8-system delete secret registry-bashible-config"); err != nil {
		return err
	}
	err = until(ctx, "the Secret to come back", time.Minute, func(ctx context.Context) error {
		is, err := s.secret(ctx, "registry-bashible-config")
		if err == nil && is.UID == old.UID {
			err = errors.New("it is the old one")
		}
		return err
	})
	s.expect("the legacy format is for Unmanaged only: the deleted Secret comes back", err)
	if err := s.enough(ctx, fewest); err != nil {
		return err
	}
	now, err := s.look(ctx)
	if err != nil {
		return err
	}
	s.expect(fmt.Sprintf("none of %d pods was restarted by all that", counted(s.before.pods)), samePods(s.before.pods, now.pods))
	st, err := s.readStatus(ctx)
	if err != nil {
		return err
	}
	s.expect("still Ready", unless(st.is("Ready", metav1.ConditionTrue) && st.Mode == "Direct", "%s: %s", st.Mode, st.waitingFor()))
	return nil
}

// settingsB is Direct on the other registry, by user and password.
func settingsB(b *machine.Registry) []filled {
	fill := settingsA(b)
	for user, password := range b.Users {
		fill[1] = filled{"license: <LICENSE_KEY> # Replace with your license key", fmt.Sprintf("username: %s\n        password: %s", user, password)}
	}
	return fill
}

// directB switches from one registry to another within Direct.
func (s *story) directB(ctx context.Context) error {
	if err := s.jobEverywhere(ctx); err != nil {
		return err
	}
	if err := s.noted(ctx); err != nil {
		return err
	}
	both := make(chan error, 1)
	watch, stop := context.WithCancel(ctx)
	defer stop()
	go func() { both <- s.layoutHas(watch, s.a().Host, s.b().Host) }()
	if err := s.apply(ctx, docManage, 102, settingsB(s.b())...); err != nil {
		return err
	}
	if err := s.ready(ctx, "Direct"); err != nil {
		return err
	}
	stop()
	s.expect("on the way nodes knew both registries", <-both)
	printed, err := s.showStatus(ctx, 0)
	if err != nil {
		return err
	}
	s.compareConditions(printed, s.b().Host)
	now, err := s.look(ctx)
	if err != nil {
		return err
	}
	s.expect(fmt.Sprintf("none of %d pods was restarted, the agents' among them", counted(s.before.pods)), samePods(s.before.pods, now.pods))
	s.expect("Deckhouse was restarted", s.otherPod(s.before, now, "d8-system/deckhouse-"))
	s.expectRestarts("no containerd was restarted", s.before, now, map[string]int{})
	s.expect("no layer was downloaded again", s.downloaded(s.before, now))
	return s.oldRegistryForgotten(ctx)
}

// jobEverywhere pulls the CronJob's image on every node: its pods may come to
// any, and a first download is none that is made again.
func (s *story) jobEverywhere(ctx context.Context) error {
	reference, err := s.cluster.Reference(fixedName, "report/job")
	if err != nil {
		return err
	}
	for _, n := range s.nodes() {
		if err := n.Pull(ctx, reference, machine.Login{}); err != nil {
			return fmt.Errorf("pull %s on %s: %w", reference, n.Name, err)
		}
	}
	return nil
}

// layoutHas waits until the layout that nodes route by names all of some hosts.
func (s *story) layoutHas(ctx context.Context, hosts ...string) error {
	for {
		secret, err := s.secret(ctx, "registry-bashible-config")
		if err == nil && holdsAll(secret, hosts) {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("no layout with %v was seen", hosts)
		case <-time.After(lookEvery):
		}
	}
}

func holdsAll(secret *corev1.Secret, words []string) bool {
	text := string(slices.Concat(slices.Collect(maps.Values(secret.Data))...))
	for _, w := range words {
		if !strings.Contains(text, w) {
			return false
		}
	}
	return true
}

// oldRegistryForgotten looks for A's credentials where nodes and proxies read.
func (s *story) oldRegistryForgotten(ctx context.Context) error {
	var found []string
	for _, name := range []string{"registry-bashible-config", "registry-incluster-proxy-config", "registry-bootstrap"} {
		secret, err := s.secret(ctx, name)
		if apierrors.IsNotFound(err) {
			continue
		}
		if err != nil {
			return err
		}
		for user, password := range s.a().Users {
			if holdsAll(secret, []string{password}) {
				found = append(found, fmt.Sprintf("%s has those of %s", name, user))
			}
		}
	}
	s.expect("the old registry's credentials are nowhere", problemsOf(found))
	return nil
}

// switchAOff is the end of the registry of the installation.
func (s *story) switchAOff(ctx context.Context) error {
	s.a().Stop()
	s.out.say("%s is off, for good", s.a().Host)
	if err := s.enough(ctx, 2*fewest); err != nil {
		return err
	}
	st, err := s.readStatus(ctx)
	if err != nil {
		return err
	}
	s.expect("still Ready", unless(st.is("Ready", metav1.ConditionTrue), "%s", st.waitingFor()))
	return nil
}
