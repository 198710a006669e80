package controller

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/control/cluster"
	"github.com/d8-registry/registry/internal/control/state"
	"github.com/d8-registry/registry/internal/control/switchover"
	"github.com/d8-registry/registry/internal/pki"
	"github.com/d8-registry/registry/test/harness/loopback"
)

// rotate is the operator's order.
func (c *testbed) rotate(value string, secrets ...string) {
	c.t.Helper()
	for _, name := range secrets {
		c.retried(func(ctx context.Context) error {
			secret := c.secret(name)
			cluster.SetAnnotation(secret, v1alpha1.AnnotationRotate, value)
			return c.Update(ctx, secret)
		})
	}
}

// told waits until Module registry says something.
func (c *testbed) told(text string) {
	c.t.Helper()
	c.eventually("Module registry says "+text, func() bool { return strings.Contains(c.moduleSays(), text) })
	c.t.Log(c.moduleSays())
}

// deckhouseReads is which registry Deckhouse's template tells it to read.
func (c *testbed) deckhouseReads() string {
	c.t.Helper()
	var d appsv1.Deployment
	if err := c.Get(c.t.Context(), client.ObjectKey{Namespace: v1alpha1.Namespace, Name: "deckhouse"}, &d); err != nil {
		c.t.Fatal(err)
	}
	return d.Spec.Template.Annotations[v1alpha1.AnnotationRegistryChecksum]
}

// TestRotationRestartsDeckhouseOnly: clients of the in-cluster proxy read their registry
// again, nothing else moves. A node that a switch has left out is waited for, and comes
// back in the middle. The metrics show both.
func TestRotationRestartsDeckhouseOnly(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.cfg.Rotations = state.Rotations{Idle: 300 * time.Millisecond, Seen: time.Hour}
	c.cfg.Settings.NotReadyFor = 50 * time.Millisecond
	c.cfg.MetricsAddress = loopback.Address(t)
	c.begin()
	c.sim.set(func(s *simulator) { s.silent["worker"] = true })
	c.setReady("worker", corev1.ConditionFalse)
	v := c.switchTo(c.upstreamA())
	if len(v.doc.Excluded) != 1 || v.doc.Excluded[0].Node != "worker" {
		t.Fatalf("left out are %v", v.doc.Excluded)
	}
	started, reads := c.restarts(), c.deckhouseReads()
	copies := len(c.written())
	c.sim.set(func(s *simulator) { s.paused = true }) // the proxy learns nothing new
	c.rotate("1", v1alpha1.SecretPKI, state.UserSecretPrefix+state.UserClient, state.UserSecretPrefix+state.UserNode)
	c.told("Rotation of Secret registry-user-ro waits for Pod registry-incluster-proxy-")
	if given, _ := v.doc.User(state.UserClient); string(c.secret(state.UserSecretPrefix + state.UserClient).Data["password"]) != given.Password {
		t.Error("clients are given a password that the proxy does not know")
	}
	// Else it would read CA and password in one.
	c.eventually("Deckhouse is to read both CAs", func() bool { return c.deckhouseReads() != reads })
	c.sim.set(func(s *simulator) { s.paused = false })
	c.told("Rotation of Secret registry-pki waits for node worker, which serves generation 0")
	c.told("Rotation of Secret registry-user-node waits for node worker, which serves generation 0")
	c.until("the client's password is replaced without that node", func(now view) bool {
		before, _ := v.doc.User(state.UserClient)
		after, _ := now.doc.User(state.UserClient)
		return after.Password != before.Password && after.Previous == "" && after.Next == ""
	})
	if !c.state().ready(switchover.Direct) {
		t.Error("a rotation makes Ready False")
	}
	if page := c.metrics(); !strings.Contains(page, `registry_rotation_started_timestamp_seconds{secret="registry-pki"}`) || strings.Contains(page, `{secret="registry-user-ro"}`) {
		t.Errorf("the metrics are %s", page)
	}
	c.sim.set(func(s *simulator) { s.silent["worker"] = false })
	after := c.until("all rotations have ended", func(v view) bool { return len(v.doc.RotationsUnderWay()) == 0 })
	ca := after.doc.PKI.CA
	c.eventually("all that show the CA show the new one alone", func() bool {
		return ca != v.doc.PKI.CA && c.layout().Fallback.CA == ca.Cert && string(c.secret(v1alpha1.SecretRegistry).Data["ca"]) == ca.Cert &&
			string(c.secret(v1alpha1.SecretPKI).Data["ca.crt"]) == ca.Cert
	})
	c.eventually("Deckhouse has restarted twice", func() bool { return c.restarts()["deckhouse"] == started["deckhouse"]+2 })
	for name, n := range c.restarts() {
		if name != "deckhouse" && n != started[name] {
			t.Errorf("%s was restarted %d times", name, n-started[name])
		}
	}
	if now := len(c.written()); now != copies {
		t.Errorf("%d objects were written, and now %d are there", copies, now)
	}
	if page := c.metrics(); strings.Contains(page, "registry_rotation_started") || !strings.Contains(page, `registry_certificate_expiry_timestamp_seconds{certificate="ca"} 2.`) {
		t.Errorf("the metrics are %s", page)
	}
	c.rotate("1", v1alpha1.SecretPKI) // the same value again
	c.switchTo(c.upstreamB())
	if got := c.state().doc.PKI; got.CA != after.doc.PKI.CA || got.Next.Cert != "" {
		t.Error("a rotation began without an order")
	}
}

// metrics are ours, of certificates and rotations.
func (c *testbed) metrics() string {
	c.t.Helper()
	var lines []string
	for line := range strings.Lines(c.page()) {
		if strings.HasPrefix(line, "registry_certificate") || strings.HasPrefix(line, "registry_rotation") {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "")
}

// page is what the controller's metrics are now.
func (c *testbed) page() string {
	c.t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: timeout}
	resp, err := client.Get("http://" + c.cfg.MetricsAddress + "/metrics")
	if err != nil {
		c.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	return string(body)
}

// TestASwitchWithAnExpiredCA: the passes go on, nodes learn the new registry, and the
// module says what is wrong. The CA is replaced without waiting for anybody, in the
// middle of the switch, which then comes to its end.
func TestASwitchWithAnExpiredCA(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.cfg.Rotations = state.Rotations{Idle: time.Hour, Seen: 3 * time.Second}
	stop := c.begin()
	c.switchTo(c.upstreamA())
	stop()
	long := time.Now().Add(-11 * 365 * 24 * time.Hour)
	ca, err := pki.NewCA(long, pki.ServiceNames("cluster.local"))
	if err != nil {
		t.Fatal(err)
	}
	doc := c.state().doc
	if doc.PKI.Leaf, _, err = pki.EnsureLeaf(long, ca, pki.KeyPair{}, pki.ServiceNames("cluster.local")); err != nil {
		t.Fatal(err)
	}
	doc.PKI.CA = ca
	secret := c.secret(v1alpha1.SecretState)
	if secret.Data[state.KeyState], err = doc.Encode(); err != nil {
		t.Fatal(err)
	}
	if err := c.Update(t.Context(), secret); err != nil {
		t.Fatal(err)
	}
	shown := c.secret(v1alpha1.SecretPKI) // else the state is taken for an older copy
	shown.Data["ca.crt"], shown.Data["ca.key"] = []byte(ca.Cert), []byte(ca.Key)
	if err := c.Update(t.Context(), shown); err != nil {
		t.Fatal(err)
	}
	c.ask(settingsOf(c.upstreamB()))
	c.start(nil)
	c.told("the CA has expired")
	c.until("nodes learn the new registry meanwhile", func(v view) bool {
		return v.condition(v1alpha1.ConditionTransition).Status == metav1.ConditionTrue && v.doc.Target.Upstream == c.upstreamB()
	})
	v := c.reaches(switchover.Direct, c.upstreamB())
	if v.doc.PKI.CA == ca || v.doc.PKI.CA.Ends(time.Now()) {
		t.Error("the CA was not replaced")
	}
}

// TestAClockThatIsYearsOff of the controller changes nothing that it keeps, and a switch
// goes on by it: certificates are by the API server's time.
func TestAClockThatIsYearsOff(t *testing.T) {
	t.Parallel()
	for _, off := range []time.Duration{12, -12} {
		c := newCluster(t)
		c.cfg.Rotations = state.Rotations{Idle: time.Hour}
		stop := c.start(nil)
		c.reaches(switchover.Unmanaged, c.upstreamA())
		c.ask(settingsOf(c.upstreamA()))
		before := c.reaches(switchover.Direct, c.upstreamA()).doc.PKI
		stop()
		c.cfg.Now = func() time.Time { return time.Now().Add(off * 365 * 24 * time.Hour) }
		c.start(nil)
		c.told("The controller's clock is")
		v := c.switchTo(c.upstreamB())
		if v.doc.PKI != before || len(v.doc.RotationsUnderWay()) > 0 {
			t.Errorf("%d years: certificates were replaced", off)
		}
	}
}
