package switchover

import (
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	names "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/upstream"
)

func TestPlans(t *testing.T) {
	t.Parallel()
	for mode, want := range map[Mode]string{
		Direct: "RegistryContainsRequiredImages ContainerdConfigPreflightReady TransitionContainerdConfigReady " +
			"InClusterProxyReady DeckhouseRegistrySwitchReady FinalContainerdConfigReady",
		Unmanaged: "RegistryContainsRequiredImages TransitionContainerdConfigReady DeckhouseRegistrySwitchReady " +
			"FinalContainerdConfigReady CleanupInClusterProxy",
		ModeProxy: "RegistryContainsRequiredImages ContainerdConfigPreflightReady NodeServicesReady TransitionContainerdConfigReady " +
			"DeckhouseRegistrySwitchReady FinalContainerdConfigReady CleanupInClusterProxy",
		"Local": "",
	} {
		if got := strings.Join(Plan(mode), " "); got != want {
			t.Errorf("%s: %s, want %s", mode, got, want)
		}
	}
}

// TestConditionsOfASwitch are those that the documentation shows.
func TestConditionsOfASwitch(t *testing.T) {
	t.Parallel()
	c := direct(t, 2)
	c.want(`
RegistryContainsRequiredImages True "Ready" "a.example: all 157 items are checked"
ContainerdConfigPreflightReady True "" ""
TransitionContainerdConfigReady True "" ""
InClusterProxyReady True "" ""
DeckhouseRegistrySwitchReady True "" ""
FinalContainerdConfigReady True "" ""
Ready True "" ""
`)
	preflight, before := c.since(names.ConditionPreflight), c.since(names.ConditionReady)

	// Other parameters in the same mode: only the preflight still stands.
	c.setSpec(Direct, registryB())
	c.seen.Check = CheckReport{}
	c.advance()
	c.want(`
RegistryContainsRequiredImages False "Processing" "Initializing"
ContainerdConfigPreflightReady True "" ""
TransitionContainerdConfigReady False "Processing" "Waiting for RegistryContainsRequiredImages"
InClusterProxyReady False "Processing" "Waiting for RegistryContainsRequiredImages"
DeckhouseRegistrySwitchReady False "Processing" "Waiting for RegistryContainsRequiredImages"
FinalContainerdConfigReady False "Processing" "Waiting for RegistryContainsRequiredImages"
Ready False "Processing" "Transitioning to Direct"
`)
	if !c.since(names.ConditionReady).After(before.Time) {
		t.Error("the status flipped and the time did not move")
	}
	flipped := c.since(names.ConditionTransition)
	c.seen.Now = c.seen.Now.Add(time.Hour)
	c.advance()
	if got := c.since(names.ConditionTransition); !got.Equal(&flipped) {
		t.Error("the time moved and the status did not")
	}
	c.settle()
	if got := c.since(names.ConditionPreflight); !got.Equal(&preflight) {
		t.Error("the preflight's time moved")
	}

	// Another mode: the conditions of the old one are dropped.
	c.setSpec(Unmanaged, upstream.Upstream{})
	c.seen.Check = CheckReport{}
	c.advance()
	c.want(`
RegistryContainsRequiredImages False "Processing" "Initializing"
Ready False "Processing" "Transitioning to Unmanaged"
`)
	c.settle()
	c.want(`
RegistryContainsRequiredImages True "Ready" "b.example:5000: all 157 items are checked"
TransitionContainerdConfigReady True "" ""
DeckhouseRegistrySwitchReady True "" ""
FinalContainerdConfigReady True "" ""
CleanupInClusterProxy True "" ""
Ready True "" ""
`)
	if c.s.Active.Upstream != registryB() {
		t.Errorf("Unmanaged did not take the registry of the mode before: %v", c.s.Active)
	}
}

func TestCheckMessages(t *testing.T) {
	t.Parallel()
	request := CheckRequest{Upstream: registryB(), Images: []string{"x"}}
	fingerprint := request.Fingerprint()
	failure := CheckFailure{Source: "module/prometheus/alertmanager", Image: "b.example:5000/mirror@sha256:1", Error: "not found"}
	block := "- source: module/prometheus/alertmanager\n  image: b.example:5000/mirror@sha256:1\n  error: not found\n"
	now := time.Now()
	for name, c := range map[string]struct {
		report CheckReport
		want   string
		passed bool
	}{
		"none":          {CheckReport{}, "Initializing", false},
		"about another": {CheckReport{Fingerprint: "x", Total: 1, Done: 1, At: now}, "Initializing", false},
		"running":       {CheckReport{Fingerprint: fingerprint, Total: 157, Done: 12}, "b.example:5000: 12 of 157 items processed", false},
		"not ended":     {CheckReport{Fingerprint: fingerprint, Total: 157, Done: 157}, "b.example:5000: 157 of 157 items processed", false},
		"refused":       {CheckReport{Fingerprint: fingerprint, Problem: "401 Unauthorized", At: now}, "b.example:5000: 401 Unauthorized", false},
		"done":          {CheckReport{Fingerprint: fingerprint, Total: 157, Done: 157, At: now}, "b.example:5000: all 157 items are checked", true},
		"one missing": {CheckReport{Fingerprint: fingerprint, Total: 157, Done: 156, At: now, FailureCount: 1, Failures: []CheckFailure{failure}},
			"b.example:5000: 156 of 157 items processed, 1 items with errors:\n" + block, false},
		"many missing": {CheckReport{Fingerprint: fingerprint, Total: 157, Done: 9, FailureCount: 7, Failures: slices.Repeat([]CheckFailure{failure}, 6)},
			"b.example:5000: 9 of 157 items processed, 7 items with errors:\n" + strings.Repeat(block, 5) + "  ...and more\n", false},
	} {
		if got := checkMessage(request, c.report); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
		if got := c.report.passed(request); got != c.passed {
			t.Errorf("%s: passed %v", name, got)
		}
	}
	if (CheckReport{Fingerprint: "", At: now}).passed(CheckRequest{}) {
		t.Error("nothing was asked for and it passed")
	}
}

func TestPreflightMessages(t *testing.T) {
	t.Parallel()
	c := newScene(t, 4)
	c.seen.Nodes[1].Report.Preflight = PreflightCustom
	c.seen.Nodes[2].Report = Report{}
	c.seen.Nodes[3].Unsupported = "container runtime cri-o://1.30 is not containerd"
	c.setSpec(Direct, registryB())
	c.advance()
	c.checked()
	c.advance()
	want := "Check current nodes configuration\n3/4 node(s) Unready:\n" +
		"- node-01: has custom toml merge containerd configuration\n" +
		"- node-02: unknown containerd configuration, waiting...\n" +
		"- node-03: container runtime cri-o://1.30 is not containerd\n"
	if got := c.message(names.ConditionPreflight); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if !c.s.Desired.Layout.IsZero() {
		t.Error("a layout is published before the preflight")
	}
}

func TestRolloutMessage(t *testing.T) {
	t.Parallel()
	c := newScene(t, 13)
	c.setSpec(Direct, registryB())
	c.advance()
	c.checked()
	c.advance()
	version := c.s.Desired.Layout.Version()[:15] + "…"
	c.seen.Nodes[0].Report.Generation = c.s.Desired.Layout.Generation
	c.seen.Nodes[1].Report.Version = "0123456789abcdefghi"
	c.seen.Nodes[2].Report.Message = "b.example:5000 does not answer"
	c.seen.Nodes[3].Report.Generation, c.seen.Nodes[3].UID = c.s.Desired.Layout.Generation, "re-made"
	c.advance()
	got := c.message(names.ConditionTransition)
	for _, want := range []string{
		"Applying configuration to nodes\n1/13 node(s) ready. Waiting:\n",
		"- node-01: \"0123456789abcde…\" → \"" + version + "\"\n",
		"- node-02: \"unknown\" → \"" + version + "\": b.example:5000 does not answer\n",
		"- node-10: ",
		"\t...and 2 more\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is not in\n%s", want, got)
		}
	}
	if strings.Contains(got, "node-11") {
		t.Errorf("more than ten nodes in\n%s", got)
	}
}

func TestProxyMessages(t *testing.T) {
	t.Parallel()
	c := newScene(t, 1)
	c.setSpec(Direct, registryB())
	c.until(names.ConditionProxy)
	g := c.s.Desired.Layout.Generation
	way := layout.Fallback{Host: "10.96.0.17:5001"}
	for _, o := range []struct {
		proxy Proxy
		want  string
	}{
		{Proxy{}, "Deploying incluster-proxy..."},
		{Proxy{Exists: true, Wanted: 3, Ready: 1, Missing: []string{"master-2"}},
			"Incluster-proxy deploying in progress: 1 of 3 updated Pods are currently available. Not waited for: master-2."},
		{Proxy{Exists: true, Wanted: 1, Ready: 1, Message: "Deployment update is not yet observed by the controller"},
			"Incluster-proxy deploying in progress: Deployment update is not yet observed by the controller."},
		{Proxy{Exists: true, Wanted: 1, Ready: 1, Generation: g - 1}, "Incluster-proxy deployment version mismatch: current "},
		{Proxy{Exists: true, Wanted: 1, Ready: 1, Generation: g}, "Service has no address yet"},
		{Proxy{Exists: true, Wanted: 1, Ready: 1, Generation: g + 1, Fallback: way}, "no image was pulled through the Service yet"},
	} {
		c.seen.Proxy = o.proxy
		c.advance()
		c.has(names.ConditionProxy, o.want)
	}
	if c.s.Desired.Layout.Fallback != way {
		t.Error("the fallback is not in the layout")
	}
	c.seen.Proxy = Proxy{}
	c.advance()
	if c.s.Desired.Layout.Fallback != way {
		t.Error("the fallback was forgotten because one pass did not see it")
	}
}

func TestSwitchMessages(t *testing.T) {
	t.Parallel()
	c := newScene(t, 1)
	c.setSpec(Direct, registryB())
	c.until(names.ConditionSwitch)
	c.stays()
	c.advance()
	if !c.s.Desired.Repoint || c.s.Desired.Workloads != layout.Fixed() {
		t.Fatalf("nothing is re-pointed: %+v", c.s.Desired)
	}
	at := func(p Platform) Platform { p.Target = c.s.Target; return p }
	for _, o := range []struct {
		platform Platform
		want     string
	}{
		{Platform{Target: Target{Mode: Direct, Upstream: registryA()}, Moved: true}, "Updating registry for deckhouse components"},
		{at(Platform{Refused: []string{"Deployment a/b: denied", "Deployment a/c: denied"}, Moved: true}), "components: Deployment a/b: denied\nDeployment a/c: denied"},
		{at(Platform{Message: "Waiting for deckhouse-controller pod"}), "Waiting for deckhouse-controller pod"},
		{at(Platform{Message: "0 to re-point, 2 under way", Waiting: []string{"Deployment a/b: 0 of 1", "Deployment a/c: Pod\n- c"}}),
			"0 to re-point, 2 under way\n- Deployment a/b: 0 of 1\n- Deployment a/c: Pod - c"},
		{at(Platform{Waiting: []string{"write Secret a/b: Forbidden"}}), "Updating registry for deckhouse components\n- write Secret a/b: Forbidden"},
		{at(Platform{Moved: true}), "1 workload(s) to be re-pointed to registry.d8-system.svc:5001/system/deckhouse: " +
			"Deployment d8-a/alpha (a.example/deckhouse/ee)"},
	} {
		c.seen.Platform = o.platform
		c.advance()
		c.has(names.ConditionSwitch, o.want)
	}
	c.platformFollows()
	c.seen.Platform.Skipped = []string{"Deployment d8-b/flux (kustomize-controller)"}
	c.advance()
	c.has(names.ConditionSwitch, "Not re-pointed: Deployment d8-b/flux (kustomize-controller)")
	if c.s.condition(names.ConditionSwitch).Status != metav1.ConditionTrue {
		t.Error("what we may not touch is waited for")
	}
}

// TestRepointIsAskedAnew: rollouts do not begin while a node that counts does
// not know the name, nor towards a target that was given up.
func TestRepointIsAskedAnew(t *testing.T) {
	t.Parallel()
	c := newScene(t, 3)
	c.setSpec(Direct, registryB())
	c.until(names.ConditionSwitch)
	c.stays()
	c.advance()
	c.seen.Nodes[2].BootID = "rebooted"
	if c.advance(); c.s.Desired.Repoint {
		t.Error("rollouts begin while a node has no valid report")
	}
	c.has(names.ConditionSwitch, "node-02")
	c.report()
	c.seen.Nodes[2].Report.BootID = "rebooted"
	if c.advance(); !c.s.Desired.Repoint {
		t.Error("rollouts do not go on")
	}
	c.setSpec(Unmanaged, upstream.Upstream{})
	c.seen.Check = CheckReport{Problem: "a is slow"}
	if c.advance(); c.s.Desired.Repoint {
		t.Error("rollouts go on towards a target that was given up")
	}
}

// TestAnIPv6AddressThatANodeCannotRead: containerd 1.6 reads no such image reference.
// Nodes with it are named before anything is published, in each mode, and one that is
// left out counts as little as elsewhere.
func TestAnIPv6AddressThatANodeCannotRead(t *testing.T) {
	t.Parallel()
	six := registryB()
	six.Host = "[fd00::1]:5000"
	want := "[fd00::1]:5000: containerd 1.6 cannot read image references with an IPv6 address. Use a DNS name, or upgrade containerd on node-01."
	c := direct(t, 3)
	before := c.s.Desired.Layout
	c.seen.Nodes[1].NoIPv6 = true
	c.setSpec(Direct, six)
	for range 3 {
		c.step()
	}
	if got := c.message(names.ConditionImages); got != want || c.s.Ready() || c.s.Desired.Layout.Generation != before.Generation {
		t.Errorf("%q, layout %d of %d", got, c.s.Desired.Layout.Generation, before.Generation)
	}
	c.seen.Nodes[1].Exclude = true
	c.settle()
	c.seen.Nodes[1].Exclude = false
	c.setSpec(Direct, registryB())
	c.settle() // away from it nobody is in the way

	c = newScene(t, 3)
	c.seen.Nodes[1].NoIPv6, c.seen.Installation = true, six
	c.setSpec(Unmanaged, upstream.Upstream{})
	c.settle() // the user is there already
	if c.s.Active.Upstream != six {
		t.Errorf("active is %v", c.s.Active.Upstream)
	}
}
