package hostile

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"unicode"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/test/harness/installation"
)

// escapes clear a terminal, change colours and direction, and begin a line that
// looks like ours.
const escapes = "\n- worker: done\x1b[2J\x1b]0;x\a\u009b31m\u202e\u2066\u200b\ufeff\u2028"

// evil is the node whose owner lies.
const evil = "evil"

// A node's owner has the token of the node's agent and the rights of its kubelet.
// With them they reach nothing of another node and no Secret but the layout.
func TestOwnerOfANodeReachesNothingElse(t *testing.T) {
	t.Parallel()
	c := newCluster(t, "master", evil, "worker")
	for _, name := range []string{"worker", evil} {
		c.Make(&v1alpha1.RegistryNode{ObjectMeta: metav1.ObjectMeta{Name: name}})
	}
	for _, name := range []string{v1alpha1.SecretState, v1alpha1.SecretLayout} {
		c.Make(&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: v1alpha1.Namespace, Name: name}})
	}
	as := rest.CopyConfig(c.api.Config())
	as.Impersonate = rest.ImpersonationConfig{UserName: "system:node:" + evil, Groups: []string{"system:nodes", "system:authenticated"}}
	agent, kubelet := c.agents[evil], c.api.ClientFor(t, as)
	secret := func(name string) *corev1.Secret {
		return &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: v1alpha1.Namespace, Name: name}}
	}
	node := func(name string) *corev1.Node { return &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}} }
	report := func(name string) *v1alpha1.RegistryNode {
		return &v1alpha1.RegistryNode{ObjectMeta: metav1.ObjectMeta{Name: name}}
	}
	read := func(as client.Client, o client.Object) error {
		return as.Get(t.Context(), client.ObjectKeyFromObject(o), o)
	}
	patch := func(as client.Client, o client.Object, text string) error {
		return as.Patch(t.Context(), o, client.RawPatch("application/merge-patch+json", []byte(text)))
	}
	for tried, err := range map[string]error{
		"report for another node":            agent.Status().Patch(t.Context(), report("worker"), client.RawPatch("application/merge-patch+json", []byte(`{"status":{"generation":7}}`))),
		"approve its own restart":            patch(agent, report(evil), `{"spec":{"approvedRestart":"mine"}}`),
		"delete its own RegistryNode":        agent.Delete(t.Context(), report(evil)),
		"read Secret registry-state":         read(agent, secret(v1alpha1.SecretState)),
		"read Secret deckhouse-registry":     read(agent, secret(v1alpha1.SecretRegistry)),
		"list Secrets":                       agent.List(t.Context(), &corev1.SecretList{}),
		"read a Secret as kubelet":           read(kubelet, secret(v1alpha1.SecretState)),
		"become control plane":               patch(kubelet, node(evil), `{"metadata":{"labels":{"node-role.kubernetes.io/control-plane":""}}}`),
		"change another Node":                patch(kubelet, node("worker"), `{"metadata":{"annotations":{"registry.deckhouse.io/exclude":"true"}}}`),
		"taint or untaint its own Node":      patch(kubelet, node(evil), `{"spec":{"taints":[{"key":"a","effect":"NoSchedule"}]}}`),
		"report for another node as kubelet": kubelet.Status().Patch(t.Context(), report("worker"), client.RawPatch("application/merge-patch+json", []byte(`{"status":{"generation":7}}`))),
	} {
		if !apierrors.IsForbidden(err) && !apierrors.IsInvalid(err) {
			t.Errorf("%s: %v, expected a refusal", tried, err)
			continue
		}
		note(t, nodeOwner, tried, "refused by the API server")
	}
	if err := read(agent, secret(v1alpha1.SecretLayout)); err != nil {
		t.Errorf("the agent cannot read the layout: %v", err)
	}
	note(t, nodeOwner, "read the layout's Secret", "allowed: the registry's credentials are on every node")
	if err := patch(kubelet, node(evil), `{"metadata":{"labels":{"registry.deckhouse.io/agent":"false"}}}`); err != nil {
		t.Errorf("a kubelet may not label its own Node: %v", err)
	}
	note(t, nodeOwner, "take the agent off its own Node by a label", "allowed: that node takes no part in switches")
}

// lie writes the status of evil's RegistryNode with the token of its agent, on top
// of what is there.
func (c *cluster) lie(change func(*v1alpha1.RegistryNode)) error {
	c.t.Helper()
	for {
		var rn v1alpha1.RegistryNode
		if err := c.Get(c.t.Context(), client.ObjectKey{Name: evil}, &rn); err != nil {
			return err
		}
		if len(rn.OwnerReferences) == 0 {
			continue // it is being made
		}
		rn.Status.NodeUID, rn.Status.BootID, rn.Status.Preflight = string(rn.OwnerReferences[0].UID), "boot-of-"+evil, "Ready"
		change(&rn)
		if err := c.agents[evil].Status().Update(c.t.Context(), &rn); !apierrors.IsConflict(err) {
			return err
		}
	}
}

// mustLie is a lie that the API server takes.
func (c *cluster) mustLie(change func(*v1alpha1.RegistryNode)) {
	c.t.Helper()
	if err := c.lie(change); err != nil {
		c.t.Fatal(err)
	}
}

// exclude sets or removes the operator's annotation on evil's Node.
func (c *cluster) exclude(on string) {
	c.t.Helper()
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: evil}}
	patch := fmt.Sprintf(`{"metadata":{"annotations":{%q:%s}}}`, v1alpha1.AnnotationExclude, on)
	if err := c.Patch(c.t.Context(), node, client.RawPatch("application/merge-patch+json", []byte(patch))); err != nil {
		c.t.Fatal(err)
	}
}

// wantShown fails for a condition that is not fit to be shown.
func (c *cluster) wantShown(all installation.Conditions) {
	c.t.Helper()
	for kind, one := range all {
		if strings.ContainsFunc(one.Message, func(r rune) bool { return !unicode.IsPrint(r) && r != '\n' && r != '\t' }) || len(one.Message) > 8<<10 {
			c.t.Errorf("%s is not fit to be shown: %.300q", kind, one.Message)
		}
		if strings.Contains(one.Message, "\n- worker: done") {
			c.t.Errorf("%s has a line of the liar: %q", kind, one.Message)
		}
	}
}

// A node that says that it needs an image which no registry has.
func TestANodeThatNeedsNonsense(t *testing.T) {
	t.Parallel()
	c := newCluster(t, "master", evil)
	c.liars[evil] = true
	c.start()
	c.Until("a RegistryNode of the liar", func(installation.Conditions) bool {
		return c.lie(func(rn *v1alpha1.RegistryNode) {
			rn.Status.Containerd.SandboxImage, rn.Status.Preflight = layout.Fixed().Reference("nope:1"), ""
		}) == nil
	})
	c.Ask(installation.Direct(c.b.Upstream(pathB)))
	c.wantShown(c.says(v1alpha1.ConditionImages, "sandbox of Node evil"))
	c.exclude(`"true"`)
	c.Until("the check goes on without the liar", func(all installation.Conditions) bool { return all.Done(v1alpha1.ConditionImages) })
	note(t, nodeOwner, "report a sandbox image that no registry has", "the check names the node; excluded by annotation")
}

// A node that lies holds up the switch until the operator excludes it, is named
// while it does, and shows nothing but printable text.
func TestANodeThatLies(t *testing.T) {
	t.Parallel()
	c := newCluster(t, "master", evil, "worker")
	c.liars[evil] = true
	c.start()
	const preflight, transition = v1alpha1.ConditionPreflight, v1alpha1.ConditionTransition

	c.Ask(installation.Direct(c.b.Upstream(pathB)))

	// It says nothing at all.
	c.says(preflight, "- evil: unknown containerd configuration")
	note(t, nodeOwner, "report nothing", "named in the condition; excluded by annotation")

	for _, kind := range []string{"Custom", "Unsupported"} {
		c.mustLie(func(rn *v1alpha1.RegistryNode) { rn.Status.Preflight, rn.Status.Message = kind, kind+escapes })
		c.wantShown(c.says(preflight, kind))
	}
	note(t, nodeOwner, "lie about containerd, with terminal escapes", "named with printable text on its own line; excluded by annotation")

	for field, change := range map[string]func(*v1alpha1.RegistryNode){
		"message":            func(rn *v1alpha1.RegistryNode) { rn.Status.Message = strings.Repeat("x", 1<<20) },
		"version":            func(rn *v1alpha1.RegistryNode) { rn.Status.Version = strings.Repeat("x", 1<<20) },
		"sandboxImage":       func(rn *v1alpha1.RegistryNode) { rn.Status.Containerd.SandboxImage = strings.Repeat("x", 1<<20) },
		"containerd.version": func(rn *v1alpha1.RegistryNode) { rn.Status.Containerd.Version = strings.Repeat("x", 1<<20) },
		"warnings":           func(rn *v1alpha1.RegistryNode) { rn.Status.Warnings = make([]string, 1000) },
		"redirects": func(rn *v1alpha1.RegistryNode) {
			for i := range 2000 {
				rn.Status.Redirects = append(rn.Status.Redirects, v1alpha1.RedirectStatus{Name: fmt.Sprint(i)})
			}
		},
		"restart.id": func(rn *v1alpha1.RegistryNode) {
			rn.Status.Restart = &v1alpha1.RestartStatus{Phase: v1alpha1.RestartRunning, ID: strings.Repeat("x", 1<<20)}
		},
	} {
		if err := c.lie(change); !apierrors.IsInvalid(err) {
			t.Errorf("a megabyte in %s: %v, expected a refusal", field, err)
		}
	}
	note(t, nodeOwner, "report megabytes", "refused by the API server: each field of RegistryNode has a limit")

	// What passes the limits shows everywhere and harms nothing.
	c.mustLie(func(rn *v1alpha1.RegistryNode) {
		s := &rn.Status
		s.Message, s.Version, s.AgentVersion, s.Containerd.Version = escapes, escapes, escapes, escapes
		s.Warnings = []string{"warning" + escapes}
	})
	c.wantShown(c.says(transition, "- evil: \""))
	c.Until("the Event of a warning", func(installation.Conditions) bool { return c.wantPrintableEvents("ContainerdWarning") })
	var node corev1.Node
	if err := c.Get(t.Context(), client.ObjectKey{Name: evil}, &node); err != nil {
		t.Fatal(err)
	}
	if version := node.Annotations[v1alpha1.AnnotationVersion]; strings.ContainsFunc(version, func(r rune) bool { return !unicode.IsPrint(r) }) {
		t.Errorf("the Node's annotation is %q", version)
	}
	note(t, nodeOwner, "terminal escapes in version, message and warnings", "printable in conditions, Events and the Node's annotation")

	for _, phase := range []string{v1alpha1.RestartRunning, v1alpha1.RestartFailed} {
		c.mustLie(func(rn *v1alpha1.RegistryNode) {
			rn.Status.Restart = &v1alpha1.RestartStatus{ID: "mine" + escapes, Phase: phase, Message: "for ever" + escapes}
		})
		c.wantShown(c.says(transition, "containerd restarts: 0 of 1 nodes; waiting: evil (says "+phase+" without approval)"))
	}
	note(t, nodeOwner, "restart for ever, or fail to", "what nobody approved takes no place and stops no other restart, and is named at once; excluded by annotation")

	for _, generation := range []int64{1 << 30, 1 << 53, math.MaxInt64} {
		c.mustLie(func(rn *v1alpha1.RegistryNode) { rn.Status.Generation, rn.Status.Restart = generation, nil })
		c.mustLie(func(rn *v1alpha1.RegistryNode) { rn.Status.Generation = 1 })
		c.wantShown(c.says(transition, "- evil: "))
	}
	note(t, nodeOwner, "report generations that were never published", "believed once, then named; the others go on")

	c.exclude(`"true"`)
	all := c.Until("the switch goes on without the liar", func(all installation.Conditions) bool { return all.Done(transition) })
	if message := all[v1alpha1.ConditionReady].Message; !strings.Contains(message, "1 node(s) not waited for: evil") {
		t.Errorf("Ready does not name the excluded node: %q", message)
	}
	note(t, nodeOwner, "hold up the switch by any report", "annotation registry.deckhouse.io/exclude on its Node ends it; Ready names the node")
}

// wantPrintableEvents reports whether there is an Event of a reason, and fails if
// any is not printable.
func (c *cluster) wantPrintableEvents(reason string) bool {
	c.t.Helper()
	var list eventsv1.EventList
	if err := c.List(c.t.Context(), &list); err != nil {
		c.t.Fatal(err)
	}
	found := false
	for _, e := range list.Items {
		if found = found || e.Reason == reason; strings.ContainsFunc(e.Note, func(r rune) bool { return !unicode.IsPrint(r) && r != '\n' }) {
			c.t.Errorf("Event %s is not printable: %q", e.Reason, e.Note)
		}
	}
	return found
}
