package component

import (
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/control/cluster"
	"github.com/d8-registry/registry/internal/control/excerpt"
	"github.com/d8-registry/registry/internal/control/state"
	"github.com/d8-registry/registry/internal/control/switchover"
	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/test/harness/fleet"
)

// agentsOf is a cluster where each word is a node with the state of its agent:
// "w1:new". Nodes with a name that begins with m are of the control plane.
func agentsOf(nodes ...string) *state.View {
	s := fleet.Empty()
	ds := appsv1.DaemonSet{ObjectMeta: metav1.ObjectMeta{Namespace: v1alpha1.Namespace, Name: v1alpha1.DaemonSetAgent}}
	cluster.SetAnnotation(&ds.Spec.Template.ObjectMeta, v1alpha1.AnnotationRevision, "2")
	s.Inventory.DaemonSets = append(s.Inventory.DaemonSets, ds)
	s.Layout = &corev1.Secret{Data: map[string][]byte{v1alpha1.KeyLayout: mustEncode(layout.Layout{
		Schema: layout.Schema, Generation: 7, Mode: "Direct", Target: fleet.Moving().Desired.Registry.Upstream,
		Routes: layout.Cross([]layout.Name{layout.Fixed()}, fleet.Moving().Desired.Bootstrap),
	})}}
	for _, word := range nodes {
		name, state, _ := strings.Cut(word, ":")
		n := switchover.Node{Name: name, UID: "uid-" + name, BootID: "boot", Agent: true, Ready: true, ControlPlane: name[0] == 'm'}
		n.Report = switchover.Report{UID: n.UID, BootID: "boot", Generation: 7, Preflight: switchover.PreflightReady}
		pod := corev1.Pod{ObjectMeta: metav1.ObjectMeta{
			Namespace: v1alpha1.Namespace, Name: "agent-" + name, UID: types.UID("pod-" + name), Annotations: map[string]string{v1alpha1.AnnotationRevision: "2"},
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(&ds, appsv1.SchemeGroupVersion.WithKind("DaemonSet"))},
		}}
		pod.Spec.NodeName = name
		pod.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
		rn := &v1alpha1.RegistryNode{Status: v1alpha1.RegistryNodeStatus{NodeUID: n.UID, BootID: "boot", Generation: 7, AgentPod: string(pod.UID)}}
		hasPod := true
		for _, what := range strings.Split(state, ",") {
			switch what {
			case "old":
				pod.Annotations, rn.Status.AgentPod = nil, "" // as an older version makes it
			case "unready":
				pod.Status.Conditions = nil
			case "crash":
				pod.Status.Conditions = nil
				pod.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "serve", State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff"}}}}
			case "silent":
				rn.Status.AgentPod = "its predecessor"
			case "behind":
				n.Report.Generation = 6
			case "says":
				n.Report.Message = "target: refused\nmore"
			case "custom":
				n.Report.Preflight, n.Report.Generation = switchover.PreflightCustom, 0
			case "ending":
				now := metav1.Now()
				pod.DeletionTimestamp = &now
			case "none":
				hasPod = false
			case "down":
				n.Ready = false
			case "excluded":
				n.Exclude = true
			}
		}
		s.Observed.Nodes = append(s.Observed.Nodes, n)
		s.RegistryNodes[name] = rn
		if hasPod {
			s.Inventory.Pods = append(s.Inventory.Pods, excerpt.PodOf(&pod))
		}
	}
	return s
}

// revision is the revision of a template.
func revision(template corev1.PodTemplateSpec) string { return revisionOf(&template) }

func mustEncode(l layout.Layout) []byte {
	for i := range l.Routes {
		l.Routes[i].Upstreams = append(l.Routes[i].Upstreams, l.Target)
	}
	data, err := layout.Encode(l)
	if err != nil {
		panic(err)
	}
	return data
}

func TestWhichAgentsAreReplacedNow(t *testing.T) {
	t.Parallel()
	many := strings.Fields(strings.Repeat("w:old ", 29))
	for i := range many {
		many[i] = "w" + string(rune('A'+i)) + ":old"
	}
	for _, c := range []struct {
		have   string
		atOnce int
		want   string // pods that are deleted
		waits  string // node and why
	}{
		{have: "m1:old w2:old w1:old", want: "w1"},
		{have: "m1:old w2:old w1:new", want: "w2"},
		{have: "m1:old m2:old w1:new", atOnce: 5, want: "m1"},
		{have: "m1:old m2:old w1:new w2:old", atOnce: 5, want: "w2 m1"},
		{have: "w1:new w2:new"},
		// The first one alone, also if the setting allows more.
		{have: "w1:old w2:old w3:old", atOnce: 3, want: "w1"},
		{have: "w1:new w2:old w3:old w4:old", atOnce: 2, want: "w2 w3"},
		{have: strings.Join(many, " ") + " wz:new", want: "wA wB wC"},
		// One that does not run comes first.
		{have: "m1:old,crash w1:old w2:new", want: "m1"},
		// None while a new one does not work.
		{have: "w1:new,crash w2:old", waits: "w1 Pod agent-w1: container serve: CrashLoopBackOff"},
		{have: "w1:new,unready w2:old", waits: "w1 Pod agent-w1 is not Ready"},
		{have: "w1:new,silent w2:old", waits: "w1 Pod agent-w1 has not reported yet"},
		{have: "w1:new,behind w2:old", waits: "w1 it serves generation 6 of 7"},
		{have: "w1:new,says w2:old", waits: "w1 target: refused"},
		{have: "w1:old,ending w2:old", waits: "w1 Pod agent-w1 is being replaced"},
		{have: "w1:none w2:old", waits: "w1 it has no Pod of DaemonSet registry-agent"},
		// Nodes that are NotReady, and one that cannot take part.
		{have: "w1:old,down w2:new w3:old", want: "w3"},
		{have: "w1:none,down w2:new w3:old", want: "w3"},
		{have: "w1:new,down w2:new w3:old", want: "w3"},
		{have: "w1:new,down,unready w2:new w3:old", want: "w3"}, // as the node controller marks it
		{have: "w1:new,down,silent w2:new w3:old", waits: "w1 Pod agent-w1 has not reported yet"},
		{have: "w1:new,crash,excluded w2:new w3:old", want: "w3"},
		{have: "w1:new,custom w2:old", want: "w2"},
	} {
		a := observeAgents(with(agentsOf(strings.Fields(c.have)...), fleet.Moving()))
		var got, waits []string
		for _, pod := range a.next(c.atOnce) {
			got = append(got, pod.Node)
		}
		for _, l := range a.waiting {
			waits = append(waits, l.node.Name+" "+l.why)
		}
		if strings.Join(got, " ") != c.want || strings.Join(waits, "; ") != c.waits {
			t.Errorf("%s: replaces %v and waits for %q, want %q and %q", c.have, got, waits, c.want, c.waits)
		}
	}
}

// TestARevisionIsOfTheModuleAlone: another registry, or more nodes, are no upgrade.
// Every other change is.
func TestARevisionIsOfTheModuleAlone(t *testing.T) {
	t.Parallel()
	r, doc := keeper(), fleet.Moving()
	doc.Desired.Own = doc.Desired.Registry.Upstream
	agent := func(s *state.View) string { return revision(wantedAgent(r, s, doc)) }
	before, proxy := agent(fleet.New()), revision(wantedProxy(r, fleet.New(), doc))
	large := fleet.New()
	large.Nodes = make([]corev1.Node, 500)
	doc.Desired.Own.Host = "elsewhere.io"
	if got := agent(large); got != before || before == "" {
		t.Errorf("another registry and 500 nodes make %q of %q", got, before)
	}
	if template := wantedAgent(r, large, doc); !slices.Contains(template.Spec.Containers[1].Args, "--jitter=10s") {
		t.Errorf("node runs with %v", template.Spec.Containers[1].Args)
	}
	for what, change := range map[string]func(){
		"an image":    func() { r.cfg.Image = ":v2" },
		"an argument": func() { r.cfg.AgentArgs = []string{"--verbose"}; r.cfg.ProxyArgs = r.cfg.AgentArgs },
	} {
		was := r.cfg
		change()
		if agent(fleet.New()) == before || revision(wantedProxy(r, fleet.New(), doc)) == proxy {
			t.Errorf("%s makes no other revision", what)
		}
		r.cfg = was
	}
}

// TestATemplateOfAnotherVersionIsKeptButForItsBase: during a switch.
func TestATemplateOfAnotherVersionIsKeptButForItsBase(t *testing.T) {
	t.Parallel()
	r, doc := keeper(), fleet.Moving()
	doc.Desired.Own = doc.Desired.Registry.Upstream
	older := wantedAgent(r, fleet.New(), doc)
	for i := range older.Spec.Containers {
		older.Spec.Containers[i].Image = fleet.Old().Reference(":v0")
	}
	cluster.SetAnnotation(&older.ObjectMeta, v1alpha1.AnnotationRevision, "of v0")
	r.cfg.AgentArgs = []string{"--unknown-to-v0"}
	want := wantedAgent(r, fleet.New(), doc)

	got := r.ownTemplate(t.Context(), with(fleet.New(), doc), want, older)
	for _, container := range got.Spec.Containers {
		if container.Image != "r.io/d8:v0" || slices.Contains(container.Args, "--unknown-to-v0") {
			t.Errorf("%s runs %s with %v", container.Name, container.Image, container.Args)
		}
	}
	if revisionOf(&got) != "of v0" || !strings.HasPrefix(older.Spec.Containers[0].Image, fleet.Old().String()) {
		t.Errorf("its revision is %q; what was given has %s", revisionOf(&got), older.Spec.Containers[0].Image)
	}
	s := fleet.New()
	if got := r.templateBeforeTurn(t.Context(), with(s, doc), want, older); got.Spec.Containers[0].Image != fleet.Old().Reference(":v0") || revisionOf(&got) != "of v0" {
		t.Errorf("before its turn the proxy is %s of revision %s", got.Spec.Containers[0].Image, revisionOf(&got))
	}
	// An image of somebody else is not kept, nor a change by hand.
	strange := *older.DeepCopy()
	strange.Spec.Containers[0].Image = "somewhere.else/image:1"
	drifted := *want.DeepCopy()
	drifted.Spec.Containers[0].Args = nil
	for _, have := range []corev1.PodTemplateSpec{strange, drifted} {
		if got := r.ownTemplate(t.Context(), with(fleet.New(), doc), want, have); !slices.Contains(got.Spec.Containers[0].Args, "--unknown-to-v0") {
			t.Errorf("kept %s with %v", have.Spec.Containers[0].Image, have.Spec.Containers[0].Args)
		}
	}
}

// TestNoAgentIsSparedWhile a node restarts containerd or the in-cluster proxy does
// not run.
func TestNoAgentIsSparedWhile(t *testing.T) {
	t.Parallel()
	r, doc, s := keeper(), fleet.Moving(), agentsOf("w1:old")
	if why := r.postponeReason(with(s, doc)); why != "" {
		t.Errorf("waits for %s", why)
	}
	doc.Desired.Restarts = []switchover.Approval{{Node: "w1", UID: "uid-w1", ID: "x"}}
	if why := r.postponeReason(with(s, doc)); why != "the restart of containerd on w1" {
		t.Errorf("waits for %q", why)
	}
	s.Observed.Nodes[0].Report.Restart.Phase = switchover.RestartFailed // the agent may be the reason, and is replaced
	if why := r.postponeReason(with(s, doc)); why != "" {
		t.Errorf("waits for %s", why)
	}
	doc.Desired.Proxy = true
	if why := r.postponeReason(with(s, doc)); why != "the upgrade of Deployment registry-incluster-proxy" {
		t.Errorf("without a proxy it waits for %q", why)
	}
	s.Observed.Proxy.Wanted = 1
	proxy, _ := r.wanted(inClusterProxy(r.cfg), with(s, doc)).Object.(*appsv1.Deployment)
	there := func() { s.Inventory.Deployments = []appsv1.Deployment{*proxy} }
	there()
	if why := r.postponeReason(with(s, doc)); !strings.Contains(why, "0 of 1") {
		t.Errorf("with a proxy that rolls it waits for %q", why)
	}
	proxy.Status = appsv1.DeploymentStatus{Replicas: 1, UpdatedReplicas: 1, AvailableReplicas: 1}
	there()
	if why := r.postponeReason(with(s, doc)); why != "" {
		t.Errorf("waits for %s", why)
	}
}

// TestWhatUndoesAnUpgrade: each word is a pod of the wanted version, or of the
// version of the existing template ("there").
func TestWhatUndoesAnUpgrade(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		pods string
		want bool
	}{
		{"", false},
		{"there:ready", false},
		{"there:starting", false}, // it may still come up
		{"there:ready there:crash", false},
		{"wanted:crash there:ready", false},
		{"wanted:ready there:ready", true},
		{"wanted:ready there:crash there:ready", true},
		{"there:crash", true},
		{"other:ready there:crash", true},
		{"proxy:crash there:starting", false},
	} {
		s := fleet.Empty()
		template := func(revision string) corev1.PodTemplateSpec {
			made := corev1.PodTemplateSpec{}
			made.Labels = map[string]string{v1alpha1.LabelApp: v1alpha1.DaemonSetAgent}
			cluster.SetAnnotation(&made.ObjectMeta, v1alpha1.AnnotationRevision, revision)
			return made
		}
		for _, word := range strings.Fields(c.pods) {
			revision, state, _ := strings.Cut(word, ":")
			pod := corev1.Pod{ObjectMeta: template(revision).ObjectMeta}
			pod.Namespace = v1alpha1.Namespace
			if revision == "proxy" {
				pod = corev1.Pod{ObjectMeta: template("there").ObjectMeta}
				pod.Namespace, pod.Labels = v1alpha1.Namespace, map[string]string{v1alpha1.LabelApp: v1alpha1.DeploymentProxy}
			}
			switch state {
			case "ready":
				pod.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
			case "crash":
				pod.Status.ContainerStatuses = []corev1.ContainerStatus{{State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff"}}}}
			}
			s.Inventory.Pods = append(s.Inventory.Pods, excerpt.PodOf(&pod))
		}
		if got := undoes(s, template("wanted"), template("there")); got != c.want {
			t.Errorf("%s: %v, want %v", c.pods, got, c.want)
		}
		if undoes(s, template("there"), template("there")) {
			t.Errorf("%s: the same version undoes itself", c.pods)
		}
	}
}

// TestTheProxyIsUndoneToo: also before it may move, because the switch waits for
// it.
func TestTheProxyIsUndoneToo(t *testing.T) {
	t.Parallel()
	r, doc, s := keeper(), fleet.Moving(), fleet.New()
	doc.Desired.Own = doc.Desired.Registry.Upstream
	want := wantedProxy(r, s, doc)
	bad := *want.DeepCopy()
	cluster.SetAnnotation(&bad.ObjectMeta, v1alpha1.AnnotationRevision, "bad")
	if got := r.templateBeforeTurn(t.Context(), with(s, doc), want, bad); revisionOf(&got) != "bad" {
		t.Errorf("with nobody broken it is of revision %s", revisionOf(&got))
	}
	pod := corev1.Pod{ObjectMeta: bad.ObjectMeta}
	pod.Namespace = v1alpha1.Namespace
	pod.Status.ContainerStatuses = []corev1.ContainerStatus{{State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "ImagePullBackOff"}}}}
	s.Inventory.Pods = append(s.Inventory.Pods, excerpt.PodOf(&pod))
	if got := r.templateBeforeTurn(t.Context(), with(s, doc), want, bad); revisionOf(&got) != revisionOf(&want) {
		t.Errorf("with a broken one it is of revision %s", revisionOf(&got))
	}
}
