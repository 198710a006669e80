package component

import (
	"flag"
	"fmt"
	"net"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/control/excerpt"
	"github.com/d8-registry/registry/internal/control/state"
	"github.com/d8-registry/registry/internal/control/switchover"
	"github.com/d8-registry/registry/internal/datapath/gateway"
	"github.com/d8-registry/registry/internal/upstream"
	"github.com/d8-registry/registry/test/harness/fleet"
)

func keeper() *Keeper {
	cfg := Config{Image: ":own"}
	return NewKeeper(fleet.Client(), cfg, List(cfg), nil)
}

// wantedAgent and wantedProxy are the templates that this version wants.
func wantedAgent(k *Keeper, v *state.View, doc state.Document) corev1.PodTemplateSpec {
	return *k.wanted(agent(k.cfg), with(v, doc)).Template
}

func wantedProxy(k *Keeper, v *state.View, doc state.Document) corev1.PodTemplateSpec {
	return *k.wanted(inClusterProxy(k.cfg), with(v, doc)).Template
}

// with is the view with another document.
func with(v *state.View, doc state.Document) *state.View {
	v.Doc = doc
	return v
}

// TestOwnDeploymentStaysIfAToolAppliesIt: if a GitOps tool applies the chart, the
// image of our own Deployment stays. It is listed, and nobody waits for it.
func TestOwnDeploymentStaysIfAToolAppliesIt(t *testing.T) {
	t.Parallel()
	for _, manager := range []string{"kubectl", "argocd-controller"} {
		s := fleet.New(v1alpha1.DeploymentController)
		s.Inventory.Deployments[0].ManagedFields = []metav1.ManagedFieldsEntry{{
			Manager: manager, FieldsType: "FieldsV1",
			FieldsV1: metav1.NewFieldsV1(`{"f:spec":{"f:template":{"f:spec":{"f:containers":{"k:{\"name\":\"main\"}":{"f:image":{}}}}}}}`),
		}}
		doc := fleet.Moving()
		doc.Desired.Own = upstream.Upstream{Host: "new.io", Path: "d8", Scheme: upstream.HTTPS}
		with(s, doc)
		w, why := keeper().Skipped(s)
		if fights := !controllerMoves(s).None(); fights != (manager == "kubectl") || fights == (w != nil) {
			t.Errorf("%s: re-pointed %t, skipped %q", manager, fights, why)
		}
	}
}

// TestAUseIsWhenWeSawIt: a proxy, whose clock may be wrong, is used when its report
// changes.
func TestAUseIsWhenWeSawIt(t *testing.T) {
	t.Parallel()
	r := keeper()
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for i, c := range []struct {
		told string
		want int // the step in which it was used; -1: never
	}{
		{"", -1},
		{"1999-01-01T00:00:00Z", 1},
		{"1999-01-01T00:00:00Z", 1},
		{"2099-01-01T00:00:00Z", 3},
		{"2099-01-01T00:00:00Z", 3},
		{"1999-01-01T00:00:00Z", 5},
	} {
		pod := excerpt.PodOf(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{
			Namespace: v1alpha1.Namespace, UID: "1", Annotations: map[string]string{v1alpha1.AnnotationLastUse: c.told},
		}})
		still := map[types.UID]use{}
		got := r.lastUse(still, pod, start.Add(time.Duration(i)*time.Minute))
		r.uses = still
		if want := start.Add(time.Duration(c.want) * time.Minute); got.IsZero() != (c.want < 0) || c.want >= 0 && !got.Equal(want) {
			t.Errorf("step %d: used at %v", i, got)
		}
	}
}

func TestAnErrorStandsStill(t *testing.T) {
	t.Parallel()
	reset := func(port int) error {
		return fmt.Errorf("ask: %w", &net.OpError{Op: "read", Net: "tcp", Source: &net.TCPAddr{IP: net.IPv4(10, 0, 0, 5), Port: port}, Addr: &net.TCPAddr{IP: net.IPv4(10, 9, 0, 1), Port: 5001}, Err: syscall.ECONNRESET})
	}
	if a, b := withoutSource(reset(40312)), withoutSource(reset(40313)); a.Error() != b.Error() || !strings.Contains(a.Error(), "10.9.0.1:5001") {
		t.Errorf("%v, %v", a, b)
	}
}

// TestAProxyMayEnd: the kubelet waits for as long as the program serves on.
func TestAProxyMayEnd(t *testing.T) {
	t.Parallel()
	var c gateway.Config
	c.RegisterFlags(flag.NewFlagSet("", flag.ContinueOnError))
	if grace := time.Duration(proxyGrace) * time.Second; grace < c.DrainDelay+c.Drain+10*time.Second {
		t.Errorf("killed after %s, and it needs %s and %s", grace, c.DrainDelay, c.Drain)
	}
}

func TestOwnTemplates(t *testing.T) {
	t.Parallel()
	r := keeper()
	r.cfg.AgentPort = 5001
	doc := fleet.Moving()
	doc.Desired.Own = doc.Desired.Registry.Upstream
	for scripts, want := range map[string]string{"": "--scripts=on", "off": "--scripts=off"} {
		r.cfg.Scripts = scripts
		pod := wantedAgent(r, fleet.New(), doc).Spec
		node := pod.Containers[1]
		if !slices.Contains(node.Args, want) || !*node.SecurityContext.Privileged || !pod.HostPID {
			t.Errorf("scripts %q: %v, %v", scripts, node.Args, node.SecurityContext)
		}
		if serve := pod.Containers[0]; serve.SecurityContext.Privileged != nil || len(serve.VolumeMounts) != 1 {
			t.Errorf("what listens may do more than it needs: %v", serve)
		}
	}
	for _, template := range []corev1.PodTemplateSpec{wantedAgent(r, fleet.New(), doc), wantedProxy(r, fleet.New(), doc)} {
		volumes := map[string]bool{}
		for _, v := range template.Spec.Volumes {
			if volumes[v.Name] {
				t.Errorf("volume %s twice", v.Name)
			}
			volumes[v.Name] = true
		}
		for _, container := range template.Spec.Containers {
			for _, mount := range container.VolumeMounts {
				if !volumes[mount.Name] {
					t.Errorf("%s mounts %s, which is not there", container.Name, mount.Name)
				}
			}
			if container.Image != "r.io/d8:own" {
				t.Errorf("%s runs %s: our own workloads never name the fixed address", container.Name, container.Image)
			}
			text := fmt.Sprint(container.Args, container.Env)
			if strings.Contains(text, "SECRET") {
				t.Errorf("%s has a secret in %s", container.Name, text)
			}
		}
	}
}

// TestProxiesWanted: there is a proxy also in managed Kubernetes, which shows no
// control-plane node.
func TestProxiesWanted(t *testing.T) {
	t.Parallel()
	master := switchover.Node{Name: "m0", ControlPlane: true, Ready: true, Schedulable: true}
	cordoned := switchover.Node{Name: "m1", ControlPlane: true, Ready: true}
	lost := switchover.Node{Name: "m2", ControlPlane: true, Schedulable: true}
	worker := switchover.Node{Name: "w1", Ready: true, Schedulable: true}
	for _, c := range []struct {
		name    string
		nodes   []switchover.Node
		wanted  int
		missing []string
	}{
		{"no control plane is visible", []switchover.Node{worker, worker}, 1, nil},
		{"one per control-plane node", []switchover.Node{master, master, worker}, 2, nil},
		{"a cordoned one and a lost one are named", []switchover.Node{master, cordoned, lost}, 1, []string{"m1: SchedulingDisabled", "m2: NotReady"}},
		{"the only one is cordoned", []switchover.Node{cordoned, worker}, 1, []string{"m1: SchedulingDisabled"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			wanted, missing := proxiesWanted(c.nodes)
			if wanted != c.wanted || !slices.Equal(missing, c.missing) {
				t.Errorf("%d, %q; want %d, %q", wanted, missing, c.wanted, c.missing)
			}
		})
	}
}

// TestAgentsThatAreStuckOnAnOldImage: on a node whose disk was erased, the agent's
// image must be pulled again, from the address that its pod was made with.
func TestAgentsThatAreStuckOnAnOldImage(t *testing.T) {
	t.Parallel()
	doc := fleet.Moving()
	doc.Desired.Own = doc.Desired.Registry.Upstream
	const now, before = "r.io/d8/registry:v1", "a.io/x/registry:v1" // any base but the wanted one
	for _, c := range []struct {
		name, template, image, waiting string
		ending                         bool
		want                           int
	}{
		{name: "it cannot be pulled", template: now, image: before, waiting: "ImagePullBackOff", want: 1},
		{name: "at the first try", template: now, image: before, waiting: "ErrImagePull", want: 1},
		{name: "it runs", template: now, image: before},
		{name: "it crashes, which another address does not help", template: now, image: before, waiting: "CrashLoopBackOff"},
		{name: "it is at the present address", template: now, image: now, waiting: "ImagePullBackOff"},
		{name: "a new one would be no better", template: before, image: before, waiting: "ImagePullBackOff"},
		{name: "it goes already", template: now, image: before, waiting: "ImagePullBackOff", ending: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			state := "w1:new"
			if c.ending {
				state = "w1:ending"
			}
			s := agentsOf(state)
			s.Inventory.DaemonSets[0].Spec.Template.Spec.Containers = []corev1.Container{{Name: "serve", Image: c.template}}
			was := s.Inventory.Pods[0]
			pod := &corev1.Pod{ObjectMeta: *was.ObjectMeta}
			pod.Name, pod.DeletionTimestamp = was.Name, was.GetDeletionTimestamp()
			pod.Spec.InitContainers = []corev1.Container{{Name: "prepare", Image: c.image}}
			if c.waiting != "" {
				pod.Status.InitContainerStatuses = []corev1.ContainerStatus{{Name: "prepare", State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: c.waiting}}}}
			}
			s.Inventory.Pods[0] = excerpt.PodOf(pod)
			if got := stuckOnOldImage(with(s, doc)); len(got) != c.want {
				t.Errorf("%d pods are stuck, want %d", len(got), c.want)
			}
		})
	}
}

// TestWhatAProxyReads: one that has said nothing yet is not asked, an older one says
// everything but this.
func TestWhatAProxyReads(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		annotations map[string]string
		want        int
	}{
		"nothing yet":   {nil, 0},
		"older":         {map[string]string{v1alpha1.AnnotationGeneration: "7"}, 1},
		"older, waits":  {map[string]string{v1alpha1.AnnotationMessage: "layout: schema 2"}, 1},
		"new":           {map[string]string{v1alpha1.AnnotationLayoutSchema: "2"}, 2},
		"new, serves":   {map[string]string{v1alpha1.AnnotationLayoutSchema: "2", v1alpha1.AnnotationGeneration: "7"}, 2},
		"says nonsense": {map[string]string{v1alpha1.AnnotationLayoutSchema: "-1", v1alpha1.AnnotationGeneration: "7"}, 1},
	} {
		if got := readsOf(excerpt.PodOf(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: v1alpha1.Namespace, Annotations: c.annotations}})); got != c.want {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
	}
}
