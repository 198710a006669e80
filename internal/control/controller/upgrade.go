package controller

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/control/switchover"
	"github.com/d8-registry/registry/internal/layout"
)

// A switch changes where the image of agent and proxy is from; an upgrade of
// the module changes anything else of their templates. The two are told apart by
// a revision on the template, made of what this version of the module wants
// with the image below the registry's base. While a switch is under way a
// template of another revision is kept as it is but for the base: an older
// program is not started with arguments that it does not know. Once Ready, the
// new template is written, and the pods of others, which the DaemonSet leaves
// alone, are deleted a few at a time. Nothing of this is stored: a new leader
// finds templates, pods and reports as they are. An upgrade that failed can be
// undone at any time, see undoes. See docs/adr/0011.

// upgrades is what this process found out about upgrades of the module.
type upgrades struct {
	// there is the request for our own image that was answered.
	there string
	// missing says why the image cannot be had, as this pass or the last one
	// found out; empty when it can, or need not.
	missing string
	// told are the pods that an Event was made for.
	told map[string]bool
}

// revisionOf is the revision that a template or pod was made as.
func revisionOf(o metav1.Object) string { return o.GetAnnotations()[v1alpha1.AnnotationRevision] }

// revise writes on a template which version of the module wants it: like is
// the same template without anything that depends on the cluster.
func revise(template *corev1.PodTemplateSpec, like corev1.PodTemplateSpec) {
	sum := sha256.Sum256(mustJSON(like))
	setAnnotation(&template.ObjectMeta, v1alpha1.AnnotationRevision, hex.EncodeToString(sum[:8]))
}

// mayUpgrade reports whether our own templates may change in more than what
// the present switch asks for.
func mayUpgrade(doc document) bool { return doc.Ready() }

// ownTemplate is what one of our own templates should be now: what this version
// wants, or what is there under the base that is wanted.
func (r *Reconciler) ownTemplate(ctx context.Context, s *sight, doc document, want, have corev1.PodTemplateSpec) corev1.PodTemplateSpec {
	if revisionOf(&want) == revisionOf(&have) || mayUpgrade(doc) && r.imageThere(ctx, s, doc) || s.undoes(want, have) {
		return want
	}
	base := layout.NameOf(doc.Desired.Own)
	kept := *have.DeepCopy()
	for _, list := range [][]corev1.Container{kept.Spec.InitContainers, kept.Spec.Containers} {
		for i := range list {
			_, rest, known := layout.MatchName(ownBases(s, doc), list[i].Image)
			if !known {
				return want // somebody else wrote it
			}
			list[i].Image = base.Reference(rest)
		}
	}
	return kept
}

// onBase reports whether all images of one of our own templates are from the
// registry that they should be from.
func onBase(s *sight, doc document, template corev1.PodTemplateSpec) bool {
	for image := range images(&template.Spec) {
		if name, _, known := layout.MatchName(ownBases(s, doc), image); !known || name != layout.NameOf(doc.Desired.Own) {
			return false
		}
	}
	return true
}

func ownBases(s *sight, doc document) []layout.Name {
	return append(knownBases(doc, &s.world), layout.NameOf(doc.Desired.Own))
}

// answersWithin is for one question about our own image. A pass waits for the
// answer, and with it the wish for another registry than the one that is silent.
const answersWithin = 10 * time.Second

// imageThere reports whether the registry has our own image. A controller may
// have been started from another registry than that of the present mode.
func (r *Reconciler) imageThere(ctx context.Context, s *sight, doc document) bool {
	wanted := switchover.CheckRequest{Upstream: doc.Desired.Own, Images: []string{r.cfg.Image}}
	switch {
	case r.upgrades.there == wanted.Fingerprint():
		return true
	case r.upgrades.missing != "":
		return false // this pass has asked
	}
	asked, cancel := context.WithTimeout(ctx, answersWithin)
	defer cancel()
	report := r.check.Check(asked, r.checkRequest(wanted, s, s.inv))
	switch {
	case asked.Err() != nil && ctx.Err() == nil:
		r.upgrades.missing = fmt.Sprintf("no answer within %s", answersWithin)
	case report.Problem != "":
		r.upgrades.missing = report.Problem
	case len(report.Failures) > 0:
		r.upgrades.missing = report.Failures[0].Image + ": " + report.Failures[0].Error
	case report.At.IsZero():
		r.upgrades.missing = "not answered"
	default:
		r.upgrades.there, r.upgrades.missing = wanted.Fingerprint(), ""
		return true
	}
	s.again = true
	r.log.Info("the module's own image is not in the registry; nothing is upgraded", "registry", doc.Desired.Own.Host, "image", r.cfg.Image, "reason", r.upgrades.missing)
	return false
}

// agents are how far the agents are with the template of their DaemonSet.
type agents struct {
	total, current int
	// outdated run another revision than the DaemonSet's, in the order in which
	// they are replaced: those that do not run anyway, then workers, then the
	// control plane.
	outdated []outdatedAgent
	// waiting are nodes whose new agent is not there yet.
	waiting []lateAgent
}

type outdatedAgent struct {
	pod          *corev1.Pod
	controlPlane bool
}

type lateAgent struct {
	node switchover.Node
	why  string
	// pod does not come up; nil when it only has not.
	pod *corev1.Pod
}

// lookAtAgents compares the agents' pods with the template of their DaemonSet.
// Nodes that the operator excludes are left out, and those that are NotReady:
// their pods can be neither deleted nor waited for. One that went NotReady
// before its new agent had a word is waited for all the same: it may be why.
func lookAtAgents(s *sight, doc document) agents {
	var a agents
	ds := s.daemonSet(v1alpha1.DaemonSetAgent)
	if ds == nil {
		return a
	}
	pods := s.agentPods()
	for _, n := range s.world.Nodes {
		if !n.Agent || n.Exclude {
			continue
		}
		pod := pods[n.Name]
		isOutdated := pod != nil && revisionOf(pod) != revisionOf(&ds.Spec.Template)
		if !n.Ready && (pod == nil || isOutdated || s.spoke(n, pod)) {
			continue
		}
		a.total++
		switch why := s.lateness(n, pod, doc); {
		case isOutdated && pod.DeletionTimestamp == nil:
			a.outdated = append(a.outdated, outdatedAgent{pod, n.ControlPlane})
		case why != "":
			a.waiting = append(a.waiting, lateAgent{n, why, pod})
		default:
			a.current++
		}
	}
	slices.SortFunc(a.outdated, func(x, y outdatedAgent) int {
		return cmp.Or(first(!podReady(x.pod), !podReady(y.pod)), first(!x.controlPlane, !y.controlPlane), strings.Compare(x.pod.Spec.NodeName, y.pod.Spec.NodeName))
	})
	slices.SortFunc(a.waiting, func(x, y lateAgent) int { return strings.Compare(x.node.Name, y.node.Name) })
	return a
}

// agentPods are the agents by node: of two the one that stays.
func (s *sight) agentPods() map[string]*corev1.Pod {
	pods := map[string]*corev1.Pod{}
	for i := range s.inv.pods {
		if pod := &s.inv.pods[i]; agentPod(pod) && (pods[pod.Spec.NodeName] == nil || pod.DeletionTimestamp == nil) {
			pods[pod.Spec.NodeName] = pod
		}
	}
	return pods
}

func first(x, y bool) int {
	switch {
	case x == y:
		return 0
	case x:
		return -1
	}
	return 1
}

// spoke reports whether the node's report is from this pod and this boot. The
// report of a pod's predecessor stays.
func (s *sight) spoke(n switchover.Node, pod *corev1.Pod) bool {
	rn := s.registryNodes[n.Name]
	return rn != nil && rn.Status.AgentPod == string(pod.UID) && rn.Status.NodeUID == n.UID && rn.Status.BootID == n.BootID
}

// lateness says what is missing for a node's agent to be there; empty when
// nothing is.
func (s *sight) lateness(n switchover.Node, pod *corev1.Pod, doc document) string {
	generation := wantedGeneration(s, doc)
	if doc.Desired.Legacy {
		generation = 0
	}
	switch {
	case pod == nil:
		return "it has no Pod of DaemonSet " + v1alpha1.DaemonSetAgent
	case pod.DeletionTimestamp != nil:
		return "Pod " + pod.Name + " is being replaced"
	case stumbles(pod) != "":
		return "Pod " + pod.Name + ": " + stumbles(pod)
	case !podReady(pod):
		return "Pod " + pod.Name + " is not Ready"
	case !s.spoke(n, pod):
		return "Pod " + pod.Name + " has not reported yet"
	case generation == 0 || n.Report.Preflight != switchover.PreflightReady:
		return "" // there is nothing to prove, or it never was
	case n.Report.Generation < generation:
		return cmp.Or(firstLine(n.Report.Message), fmt.Sprintf("it serves generation %d of %d", n.Report.Generation, generation))
	}
	return firstLine(n.Report.Message)
}

func firstLine(text string) string {
	line, _, _ := strings.Cut(text, "\n")
	return line
}

// stumbles is why a container of a pod does not run, as the kubelet calls it;
// empty when it runs or may still come up.
func stumbles(pod *corev1.Pod) string {
	passing := []string{"ContainerCreating", "PodInitializing", ""}
	for _, list := range [][]corev1.ContainerStatus{pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses} {
		for i := range list {
			if w := list[i].State.Waiting; w != nil && !slices.Contains(passing, w.Reason) {
				return "container " + list[i].Name + ": " + w.Reason
			}
		}
	}
	return ""
}

// next are the pods to delete now: the first one alone, then a few at a time,
// of the control plane one, and none while a node waits for its new agent. So
// a version that does not work stops at the first node.
func (a agents) next(atOnce int) []*corev1.Pod {
	if len(a.waiting) > 0 {
		return nil
	}
	if atOnce == 0 {
		atOnce = max(1, a.total/10)
	}
	if a.current == 0 {
		atOnce = 1
	}
	var pods []*corev1.Pod
	controlPlane := false
	for _, o := range a.outdated {
		if len(pods) == atOnce || o.controlPlane && controlPlane {
			continue
		}
		controlPlane = controlPlane || o.controlPlane
		pods = append(pods, o.pod)
	}
	return pods
}

// upgradeAgents replaces agents of another version of the module. Their nodes
// pull the second way meanwhile. During a switch only those go that do not come
// up: the switch waits for their nodes, and nobody pulls through them.
func (r *Reconciler) upgradeAgents(ctx context.Context, s *sight, doc document) error {
	ds := s.daemonSet(v1alpha1.DaemonSetAgent)
	if ds == nil {
		return nil
	}
	a := lookAtAgents(s, doc)
	r.warnOfAgents(s, a)
	settled := revisionOf(&ds.Spec.Template) == revisionOf(&r.agentDaemonSet(s, doc).Spec.Template) && ds.Status.ObservedGeneration >= ds.Generation
	var pods []*corev1.Pod
	switch {
	case !settled:
	case !mayUpgrade(doc):
		pods = a.stumbling()
	case r.notNow(s, doc) == "":
		pods = a.next(r.cfg.AgentsAtOnce)
	}
	for _, pod := range pods {
		uid := pod.UID
		err := r.client.Delete(ctx, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: pod.Namespace, Name: pod.Name}}, client.Preconditions{UID: &uid})
		if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
			continue // the cache is behind
		}
		if err != nil {
			return fmt.Errorf("replace Pod %s by one of this version: %w", key(pod), err)
		}
		r.log.Info("an agent is replaced by one of this version", "node", pod.Spec.NodeName, "pod", pod.Name)
	}
	return nil
}

// notNow says why no agent can be spared; empty when some can.
func (r *Reconciler) notNow(s *sight, doc document) string {
	for _, approval := range doc.Desired.Restarts {
		failed := slices.ContainsFunc(s.world.Nodes, func(n switchover.Node) bool {
			return n.Name == approval.Node && n.UID == approval.UID && n.Report.Restart.Phase == switchover.RestartFailed
		})
		if !failed { // its agent must be there to see it through
			return "the restart of containerd on " + approval.Node
		}
	}
	if !doc.Desired.Proxy {
		return ""
	}
	// The second way of nodes whose agent is away.
	if s.proxy == nil || revisionOf(&s.proxy.Spec.Template) != revisionOf(&r.proxyDeployment(s, doc).Spec.Template) {
		return "the upgrade of Deployment " + v1alpha1.DeploymentProxy
	}
	return rolloutOf(s.proxy, s.world.Proxy.Wanted)
}

// warnOfAgents makes an Event of each new agent that does not come up.
func (r *Reconciler) warnOfAgents(s *sight, a agents) {
	still := map[string]bool{}
	for _, late := range a.waiting {
		if late.pod == nil || stumbles(late.pod) == "" {
			continue
		}
		id := string(late.pod.UID)
		still[id] = true
		i := slices.IndexFunc(s.nodes, func(n corev1.Node) bool { return n.Name == late.node.Name })
		if !r.upgrades.told[id] && i >= 0 {
			r.warningf(&s.nodes[i], "RegistryAgentNotReady", "%s", late.why)
		}
	}
	r.upgrades.told = still
}

// upgradeMessage is what users should know of an upgrade under way; empty when
// there is none. It is no part of Ready: the cluster works.
func (r *Reconciler) upgradeMessage(s *sight, doc document) string {
	if !mayUpgrade(doc) {
		return ""
	}
	if r.upgrades.missing != "" {
		return fmt.Sprintf("The module is not upgraded: its image %q is not found at %s: %s", r.cfg.Image, doc.Desired.Own.Base(), r.upgrades.missing)
	}
	a := lookAtAgents(s, doc)
	late := slices.DeleteFunc(a.waiting, func(l lateAgent) bool {
		// With nobody outdated this may be a node that joins.
		return len(a.outdated) == 0 && (l.pod == nil || stumbles(l.pod) == "")
	})
	if len(a.outdated)+len(late) == 0 {
		return ""
	}
	message := fmt.Sprintf("Agents: %d of %d nodes run this version of the module.", a.current, a.total)
	for i, l := range late {
		if i == 3 {
			return message + fmt.Sprintf(" (+%d more)", len(late)-i)
		}
		message += fmt.Sprintf(" Waiting for %s: %s.", l.node.Name, strings.TrimSuffix(l.why, "."))
	}
	if why := r.notNow(s, doc); why != "" {
		message += " Waiting for " + why + "."
	}
	return message
}
