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
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/d8-registry/registry/test/harness/machine"
)

// facts are what a switch may change, and what it must not.
type facts struct {
	at         time.Time
	containerd map[string]process         // by node
	pods       map[string]podFact         // by namespace/name
	content    map[string]map[string]bool // digests in the content stores, by node
	downloads  []int                      // how many blobs were sent, by registry
}

// process is the containerd of a node: which one, and how often one was started.
type process struct {
	pid     int
	started uint64
	starts  int
}

// podFact is what a restart changes of a pod.
type podFact struct {
	uid      string
	started  string
	restarts int32
	owner    string // kind and name of who made it
	node     string
	images   []string
}

func (s *story) look(ctx context.Context) (facts, error) {
	f := facts{containerd: map[string]process{}, content: map[string]map[string]bool{}}
	for _, n := range s.nodes() {
		state, err := n.Service("containerd")
		if err != nil {
			return f, err
		}
		f.containerd[n.Name] = process{state.PID, state.Started, state.Starts}
		list, err := n.Run(ctx, "", "ctr", "-n", "k8s.io", "content", "ls", "-q")
		if err != nil {
			return f, err
		}
		f.content[n.Name] = map[string]bool{}
		for _, digest := range strings.Fields(list) {
			f.content[n.Name][digest] = true
		}
	}
	for _, g := range s.cluster.Registries {
		sent, err := g.Log.Downloads()
		if err != nil {
			return f, err
		}
		f.downloads = append(f.downloads, len(sent))
	}
	f.at = time.Now() // after the logs: what is pulled from now on is not in them yet
	var err error
	f.pods, err = s.podFacts(ctx)
	return f, err
}

func (s *story) podFacts(ctx context.Context) (map[string]podFact, error) {
	var pods corev1.PodList
	if err := s.client.List(ctx, &pods); err != nil {
		return nil, fmt.Errorf("list Pods: %w", err)
	}
	all := map[string]podFact{}
	for _, p := range pods.Items {
		f := podFact{uid: string(p.UID), node: p.Spec.NodeName}
		for _, o := range p.OwnerReferences {
			f.owner = o.Kind + " " + o.Name
		}
		for _, c := range slices.Concat(p.Spec.InitContainers, p.Spec.Containers) {
			f.images = append(f.images, c.Image)
		}
		for _, c := range p.Status.ContainerStatuses {
			f.restarts += c.RestartCount
			if c.State.Running != nil {
				f.started += c.State.Running.StartedAt.String() + " "
			}
		}
		all[p.Namespace+"/"+p.Name] = f
	}
	return all, nil
}

// mayRestart are the pods that a change of the registry replaces: Deckhouse, and
// of ours the controller and the proxy. Those of Jobs come and go.
func mayRestart(pod string, f podFact) bool {
	for _, prefix := range []string{"d8-system/deckhouse-", "d8-system/registry-controller-", "d8-system/registry-incluster-proxy-"} {
		if strings.HasPrefix(pod, prefix) {
			return true
		}
	}
	return strings.HasPrefix(f.owner, "Job ")
}

// samePods is an error if a pod that may not be restarted was.
func samePods(before, now map[string]podFact) error {
	var problems []string
	for _, name := range slices.Sorted(maps.Keys(before)) {
		was := before[name]
		if mayRestart(name, was) {
			continue
		}
		is, ok := now[name]
		switch {
		case !ok:
			problems = append(problems, name+" is gone")
		case was.uid != is.uid || was.started != is.started || was.restarts != is.restarts:
			problems = append(problems, fmt.Sprintf("%s was started again (%d restarts, %d before)", name, is.restarts, was.restarts))
		}
	}
	return problemsOf(problems)
}

func problemsOf(problems []string) error {
	if len(problems) == 0 {
		return nil
	}
	return errors.New(strings.Join(problems, "; "))
}

// counted is how many of the pods are compared by samePods.
func counted(pods map[string]podFact) int {
	n := 0
	for name, f := range pods {
		if !mayRestart(name, f) {
			n++
		}
	}
	return n
}

// restarted are the nodes on which containerd is another process, and how often
// it was started meanwhile.
func restarted(before, now facts) map[string]int {
	again := map[string]int{}
	for node, is := range now.containerd {
		was, known := before.containerd[node]
		if known && was != is {
			again[node] = max(is.starts-was.starts, 1)
		}
	}
	return again
}

// expectRestarts demands that containerd was restarted on these nodes as often
// as said, and on no other.
func (s *story) expectRestarts(promise string, before, now facts, want map[string]int) {
	got := restarted(before, now)
	var err error
	if !maps.Equal(got, want) {
		err = fmt.Errorf("restarts by node: %v, want %v", got, want)
	}
	s.expect(promise, err)
}

// spareDigests are those of what the nodes pull for the sake of pulling: they
// come and go all the time.
func (s *story) spareDigests() map[string]bool {
	spare := map[string]bool{}
	for _, image := range s.cluster.Spare {
		spare[image.Digest] = true
		for _, blob := range image.Blobs {
			spare[blob] = true
		}
	}
	return spare
}

// downloaded is an error if a node has content that it did not have, or a
// registry sent it a blob that it had; the pullers' own left out.
func (s *story) downloaded(before, now facts) error {
	spare := s.spareDigests()
	var problems []string
	for _, node := range slices.Sorted(maps.Keys(now.content)) {
		had := before.content[node]
		for digest := range now.content[node] {
			if had != nil && !had[digest] && !spare[digest] {
				problems = append(problems, fmt.Sprintf("%s has %s, which it had not", node, digest))
			}
		}
	}
	for i, g := range s.cluster.Registries {
		sent, err := g.Log.Downloads()
		if err != nil {
			return err
		}
		for _, d := range sent[before.downloads[i]:] {
			if node := s.nodeOf(d); node != "" && !spare[d.Digest] && before.content[node][d.Digest] {
				problems = append(problems, fmt.Sprintf("%s sent %s to %s, which had it", g.Host, d.Digest, node))
			}
		}
	}
	return problemsOf(problems)
}

// nodeOf is the node that a download went to; empty if it went to a pod.
func (s *story) nodeOf(d machine.Download) string {
	for _, n := range s.nodes() {
		if n.Space.IP.String() == d.Client {
			return n.Name
		}
	}
	return ""
}

// podsOf are the pods of an app in a namespace.
func (s *story) podsOf(ctx context.Context, namespace, app string) ([]corev1.Pod, error) {
	var pods corev1.PodList
	if err := s.client.List(ctx, &pods, client.InNamespace(namespace), client.MatchingLabels{"app": app}); err != nil {
		return nil, fmt.Errorf("list Pods of %s: %w", app, err)
	}
	return pods.Items, nil
}

func podReady(p *corev1.Pod) bool {
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodReady {
			return c.Status == corev1.ConditionTrue && p.DeletionTimestamp == nil
		}
	}
	return false
}
