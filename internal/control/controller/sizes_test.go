package controller

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/control/cluster"
	"github.com/d8-registry/registry/internal/control/state"
	"github.com/d8-registry/registry/internal/control/switchover"
	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/upstream"
	"github.com/d8-registry/registry/test/harness/cert"
	"github.com/d8-registry/registry/test/harness/testregistry"
)

// large is a registry whose CA is a bundle as large as is allowed.
func (c *testbed) large(u upstream.Upstream) upstream.Upstream {
	c.t.Helper()
	for {
		_, ca, err := cert.SelfSigned("somebody.example")
		if err != nil {
			c.t.Fatal(err)
		}
		if len(u.CA)+len(ca) > upstream.MaxCA {
			return u
		}
		u.CA += ca
	}
}

// third is one more registry with all images.
func (c *testbed) third() upstream.Upstream {
	c.t.Helper()
	r := testregistry.New(c.t, testregistry.Options{TLS: true, Username: "third", Password: "password-of-c"})
	for name, image := range c.images {
		r.Push(c.t, "third/d8", name, image)
	}
	return r.Upstream("third/d8")
}

func size(s *corev1.Secret) int {
	bytes := 0
	for _, value := range s.Data {
		bytes += len(value)
	}
	return bytes
}

// sizes logs how large each Secret with a CA is, beside the layout in schema 1.
func (c *testbed) sizes(when string) {
	c.t.Helper()
	l := c.layout()
	plain, err := layout.Encode(l)
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Logf("%s: %d names, %d accounts: state %d KiB, layout %d KiB, the proxy's Secret %d KiB; the layout in schema 1 %d KiB", when, len(l.Routes), len(l.Upstreams()),
		size(c.secret(v1alpha1.SecretState))>>10, size(c.secret(v1alpha1.SecretLayout))>>10, size(c.secret(v1alpha1.SecretProxy))>>10, len(plain)>>10)
	for _, name := range []string{v1alpha1.SecretState, v1alpha1.SecretLayout, v1alpha1.SecretProxy} {
		for _, u := range l.Upstreams() {
			last := u.CA[len(u.CA)-200 : len(u.CA)-60] // of its last certificate: it is in no other CA
			for _, value := range c.secret(name).Data {
				if unfolded := strings.NewReplacer("\n", "", " ", ""); strings.Count(unfolded.Replace(string(value)), unfolded.Replace(last)) > 1 {
					c.t.Errorf("%s: a CA is more than once in %s", when, name)
				}
			}
		}
	}
}

// publishes waits until a registry is in what nodes and proxies have.
func (c *testbed) publishes(u upstream.Upstream) {
	c.t.Helper()
	c.eventually("the layout has "+u.String(), func() bool { return slices.Contains(c.layout().Upstreams(), u) })
}

// TestALargeCAGoesThrough: three registries with a CA of 64 KiB each, and credentials
// that are corrected twice in the middle of the switch. It prints what is stored.
func TestALargeCAGoesThrough(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.start(nil)
	a := c.large(c.upstreamA())
	c.reaches(switchover.Unmanaged, c.upstreamA())
	c.switchTo(a)
	c.sizes("Direct on A")

	c.sim.set(func(s *simulator) { s.silent["master"] = true })
	b := c.large(c.upstreamB())
	for i, account := range []string{"robot", "robot-2", "robot-3"} {
		b.Credentials = upstream.Credentials{Username: account, Password: "password-of-b"}
		c.b.AddUser(account, b.Credentials.Password)
		c.ask(settingsOf(b))
		c.publishes(b)
		c.sizes(fmt.Sprintf("on the way to B, corrected %d times", i))
	}
	last := c.large(c.third())
	c.ask(settingsOf(last))
	c.publishes(last)
	c.sizes("on the way to C")
	plain, err := layout.Encode(c.layout())
	if err != nil {
		t.Fatal(err)
	}
	if now := size(c.secret(v1alpha1.SecretLayout)); len(plain) < corev1.MaxSecretSize || now > corev1.MaxSecretSize/4 {
		t.Errorf("the layout has %d bytes, and %d in schema 1: nothing is shown", now, len(plain))
	}
	c.sim.set(func(s *simulator) { delete(s.silent, "master") })
	c.reaches(switchover.Direct, last)
	c.wantImages(layout.Fixed())
	c.wantNothingOf(b.Host)
	c.wantHistory()
	c.sizes("Direct on C")
}

// TestAnOlderAgentIsGivenWhatItReads: where a node or the proxy reads schema 1 only, the
// layout is published in it, as the generation that it is.
func TestAnOlderAgentIsGivenWhatItReads(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.start(nil)
	a := c.large(c.upstreamA())
	c.reaches(switchover.Unmanaged, c.upstreamA())
	c.sim.set(func(s *simulator) { s.older["worker"] = true })
	c.switchTo(a)
	in := func(compact bool) bool {
		return isCompact(c.secret(v1alpha1.SecretLayout).Data[v1alpha1.KeyLayout]) == compact &&
			isCompact(c.secret(v1alpha1.SecretProxy).Data[v1alpha1.KeyProxyLayout]) == compact
	}
	if !in(false) {
		t.Error("published in schema 2, which a node does not read")
	}
	generation := c.layout().Generation
	for _, who := range []string{"worker", v1alpha1.DeploymentProxy} {
		c.sim.set(func(s *simulator) { delete(s.older, "worker") })
		c.eventually("all read schema 2, and it is published in it", func() bool { return in(true) })
		c.sim.set(func(s *simulator) { s.older[who] = true })
		c.eventually("after a rollback of "+who+" it is published in schema 1", func() bool { return in(false) })
		c.sim.set(func(s *simulator) { delete(s.older, who) })
	}
	c.eventually("all read schema 2 again", func() bool { return in(true) })
	if v := c.state(); c.layout().Generation != generation || !v.ready(switchover.Direct) {
		t.Errorf("a schema is a new layout: generation %d, was %d\n%v", c.layout().Generation, generation, v)
	}
	c.wantHistory()
}

// TestAWishThatCannotFitIsRefused with the figure, before it is followed. Once there is
// room for it, it is followed.
func TestAWishThatCannotFitIsRefused(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.start(nil)
	a, b, last := c.upstreamA(), c.large(c.upstreamB()), c.large(c.third())
	c.reaches(switchover.Unmanaged, a)
	c.sim.set(func(s *simulator) { s.older["worker"] = true })
	c.switchTo(a)
	c.sim.set(func(s *simulator) { s.silent["master"] = true })
	c.ask(settingsOf(b))
	c.publishes(b)
	generation := c.state().doc.Generation

	c.ask(settingsOf(last))
	v := c.until("Ready says why not", func(v view) bool {
		return strings.Contains(v.condition(v1alpha1.ConditionReady).Message, "ModuleConfig deckhouse: these settings are not followed")
	})
	message := v.condition(v1alpha1.ConditionReady).Message
	t.Log(message)
	for _, part := range []string{"Secret registry-bashible-config would need 1.", "a Secret holds 1 MiB", "older version"} {
		if !strings.Contains(message, part) {
			t.Errorf("Ready does not say %q: %s", part, message)
		}
	}
	if v.doc.Target.Upstream != b || v.condition(v1alpha1.ConditionTransition).Status != metav1.ConditionFalse || v.doc.Generation != generation || slices.Contains(c.layout().Upstreams(), last) {
		t.Errorf("it was followed:\n%v", v)
	}
	c.eventually("Module registry says why not", func() bool { return strings.Contains(c.moduleSays(), "these settings are not followed") })
	c.sim.set(func(s *simulator) { delete(s.older, "worker") })
	c.publishes(last)
	c.sim.set(func(s *simulator) { delete(s.silent, "master") })
	c.reaches(switchover.Direct, last)
}

// TestAWriteRefusedForSizeIsTriedWithLessText: a state that the API server refuses for
// its size is stored with less text, and Module registry says so. If that is not enough
// it says that nothing is done.
func TestAWriteRefusedForSizeIsTriedWithLessText(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.begin()
	c.fillState(1000)
	c.ask(`{mode: Unmanaged, "` + strings.Repeat("x", 1000) + `": 1}`)
	v := c.until("Ready says something", func(v view) bool {
		return strings.Contains(v.condition(v1alpha1.ConditionReady).Message, "unknown field")
	})
	if message := v.condition(v1alpha1.ConditionReady).Message; len(message) != 128 || !v.ready(switchover.Unmanaged) {
		t.Errorf("Ready says %d bytes: %s", len(message), message)
	}
	const cut = "were cut to 128 bytes: Secret registry-state would need 1.1 MiB, which the API server refuses."
	c.eventually("Module registry says so", func() bool { return strings.Contains(c.moduleSays(), cut) })
	c.ask(unmanaged)
	c.eventually("it is over", func() bool { return !strings.Contains(c.moduleSays(), "bytes") })

	c.fillState(0)
	for i := range 20 {
		c.excluded(fmt.Sprintf("excluded-%02d", i))
	}
	const stopped = "Nothing is changed: store Secret registry-state of 1.1 MiB: the API server refuses it for its size."
	c.eventually("Module registry says that nothing is done", func() bool { return strings.Contains(c.moduleSays(), stopped) })
	c.fillState(100 << 10)
	c.eventually("it is over again", func() bool { return !strings.Contains(c.moduleSays(), "refuses") })
}

// excluded makes a node that the operator leaves out.
func (c *testbed) excluded(name string) {
	c.t.Helper()
	c.Node(name, false)
	c.retried(func(ctx context.Context) error {
		var node corev1.Node
		if err := c.Get(ctx, client.ObjectKey{Name: name}, &node); err != nil {
			return err
		}
		cluster.SetAnnotation(&node, v1alpha1.AnnotationExclude, "true")
		return c.Update(ctx, &node)
	})
}

// fillState makes the state so large, by a field that is not known, that only so many
// bytes are left.
func (c *testbed) fillState(left int) {
	c.t.Helper()
	for {
		secret := c.secret(v1alpha1.SecretState)
		var tree map[string]any
		if err := yaml.Unmarshal(secret.Data[state.KeyState], &tree); err != nil {
			c.t.Fatal(err)
		}
		in := tree
		if document, ok := tree["document"].(map[string]any); ok {
			in = document
		}
		in["later"] = ""
		data := func() []byte {
			data, err := yaml.Marshal(tree)
			if err != nil {
				c.t.Fatal(err)
			}
			return data
		}
		secret.Data[state.KeyState] = data()
		folded, room := tree["document"] != nil, left
		if !folded {
			room = 100 << 10 // in its own way it is another size
		}
		in["later"] = strings.Repeat("F", corev1.MaxSecretSize-size(secret)-room)
		secret.Data[state.KeyState] = data()
		if c.Update(c.t.Context(), secret) != nil {
			continue // the controller wrote meanwhile
		}
		if folded {
			return
		}
		c.eventually("the controller has written it in its own way", func() bool {
			return bytes.HasPrefix(c.secret(v1alpha1.SecretState).Data[state.KeyState], []byte("document:"))
		})
	}
}

// TestAnEditedSecretThatCannotFitIsRefused: where Secret deckhouse-registry is the
// user's, an edit of it is a wish too. The first registry that a cluster has is none.
func TestAnEditedSecretThatCannotFitIsRefused(t *testing.T) {
	t.Parallel()
	account := func(i int) upstream.Upstream {
		return upstream.Upstream{Host: "a.example", Scheme: upstream.HTTPS, CA: fmt.Sprint(i) + strings.Repeat("A", 63<<10)}
	}
	r := &Reconciler{protocol: switchover.Standard()}
	var ups []upstream.Upstream
	for i := range 13 {
		ups = append(ups, account(i))
	}
	at := switchover.Target{Mode: switchover.Unmanaged, Upstream: ups[0]}
	var doc state.Document
	doc.Schema, doc.Generation, doc.Active, doc.Target = 1, 1, at, at
	doc.Desired.Layout = layout.Layout{Schema: layout.Schema, Generation: 1, Mode: layout.Unmanaged, Active: ups[0], Target: ups[0],
		Routes: layout.Cross([]layout.Name{layout.NameOf(ups[0])}, ups)}
	v := &state.View{}
	v.Observed.Installation = account(13)
	if err := r.refuseWhatCannotFit(doc, v); err != nil {
		t.Fatal(err)
	}
	if o := v.Observed; !o.Installation.IsZero() || !strings.HasPrefix(o.Spec.Problem, "Secret deckhouse-registry: these settings are not followed. With them Secret registry-state would need 1.1 MiB") {
		t.Errorf("Ready would say %q", o.Spec.Problem)
	}
	v.Observed = switchover.Observed{Installation: account(13)}
	if err := r.refuseWhatCannotFit(state.Document{}, v); err != nil || v.Observed.Installation.IsZero() || v.Observed.Spec.Problem != "" {
		t.Errorf("a new cluster: %+v, %v", v.Observed, err)
	}
}
