package state

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/control/cluster"
	"github.com/d8-registry/registry/internal/control/switchover"
	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/pki"
	"github.com/d8-registry/registry/internal/upstream"
)

// owner is a store with its document, in a cluster where all that is stored is soon
// everywhere.
type owner struct {
	t       *testing.T
	store   *Store
	doc     Document
	now     time.Time
	secrets map[client.ObjectKey]*corev1.Secret
	nodes   []switchover.Node
	behind  []string
	notes   string
}

// newOwner is Ready in Direct, with an identity of its own.
func newOwner(t *testing.T) *owner {
	t.Helper()
	o := &owner{t: t, now: noon, secrets: map[client.ObjectKey]*corev1.Secret{}}
	o.store = NewStore(&cluster.Client{Log: slog.New(slog.DiscardHandler)}, "cluster.local", DefaultRotations())
	target := switchover.Target{Mode: switchover.Direct, Upstream: upstream.Upstream{Host: "r.io", Scheme: upstream.HTTPS}}
	o.doc.State = switchover.State{
		Schema: 1, Generation: 7, Target: target, Active: target,
		Desired:    switchover.Desired{Proxy: true, Layout: layout.Layout{Generation: 7}},
		Conditions: []metav1.Condition{{Type: v1alpha1.ConditionReady, Status: metav1.ConditionTrue}},
	}
	o.pass(0)
	o.pass(0)
	return o
}

// pass is one pass, some time after the one before.
// hours makes a pass each hour, as rotations ask for.
func (o *owner) hours(n int) {
	o.t.Helper()
	for range n {
		o.pass(time.Hour)
	}
}

func (o *owner) pass(later time.Duration) {
	o.t.Helper()
	o.now = o.now.Add(later)
	v := with(o.doc)
	v.Secrets = o.secrets
	v.Observed.Now, v.Observed.Nodes = o.now, o.nodes
	v.Identity = Identity{Told: true, Behind: o.behind}
	v.TakeBack(o.now)
	doc := v.Doc
	if node, ok := doc.User(UserNode); ok { // as switchover learns it
		fallback := layout.Fallback{Host: "10.96.0.17:5001", CA: doc.PKI.Trusted(), Credentials: node.Credentials}
		if doc.Desired.Layout.Fallback != fallback {
			doc.Generation++
			doc.Desired.Layout.Fallback, doc.Desired.Layout.Generation = fallback, doc.Generation
		}
	}
	doc, err := o.store.WithIdentity(doc, v)
	if err != nil {
		o.t.Fatalf("the pass stops: %v", err)
	}
	if o.doc, o.notes = doc, strings.Join(v.Notes, "\n"); len(o.secrets) > 0 {
		o.show()
	}
}

// show makes the Secrets that a pass makes of the document.
func (o *owner) show() {
	o.t.Helper()
	put := func(name string, data map[string][]byte) {
		have := o.secrets[cluster.Here(name)]
		o.secrets[cluster.Here(name)] = cluster.SecretToWrite(have, name, corev1.SecretTypeOpaque)
		o.secrets[cluster.Here(name)].Data = data
	}
	put(v1alpha1.SecretPKI, map[string][]byte{keyCACert: []byte(o.doc.PKI.Trusted()), keyCAKey: []byte(o.doc.PKI.CA.Key)})
	for _, u := range o.doc.Users {
		put(UserSecretPrefix+u.Username, map[string][]byte{keyPassword: []byte(u.Password)})
	}
	users, err := yaml.Marshal(o.doc.Accepted())
	if err != nil {
		o.t.Fatal(err)
	}
	put(v1alpha1.SecretProxy, map[string][]byte{v1alpha1.KeyProxyUsers: users, corev1.TLSCertKey: []byte(o.doc.PKI.Leaf.Cert)})
}

// ask annotates a Secret.
func (o *owner) ask(secret, value string) {
	o.t.Helper()
	o.show()
	cluster.SetAnnotation(o.secrets[cluster.Here(secret)], v1alpha1.AnnotationRotate, value)
}

func (o *owner) phase(of string) Phase { return o.doc.rotation(of).Phase }

func (o *owner) user(name string) User {
	u, _ := o.doc.User(name)
	return u
}

// TestNoCertificateStopsAPass: with a CA that has expired or cannot sign, and by a
// clock that is years off, a pass goes on with what is there and says so. Nothing is
// made anew in each pass.
func TestNoCertificateStopsAPass(t *testing.T) {
	t.Parallel()
	const year = 365 * 24 * time.Hour
	for _, c := range []struct {
		name   string
		change func(*owner)
		says   string
	}{
		{"expired", func(o *owner) { o.now = o.now.Add(11 * year) }, "the CA has expired"},
		{"the clock is behind", func(o *owner) { o.now = o.now.Add(-40 * year) }, "the clock is before the beginning of the CA"},
		{"the key is lost", func(o *owner) { o.doc.PKI.CA.Key = "" }, "no CA that can sign"},
		{"the certificate is lost", func(o *owner) { o.doc.PKI.CA.Cert = "x" }, "no CA that can sign"},
		{"the CA and the names", func(o *owner) { o.doc.PKI.CA.Key, o.store.domain = "", "other.domain" }, "no CA that can sign"},
		{"the leaf is lost too", func(o *owner) { o.doc.PKI.CA.Key, o.doc.PKI.Leaf = "", pki.KeyPair{} }, "no CA that can sign"},
	} {
		o := newOwner(t)
		c.change(o)
		before := o.doc.PKI
		for range 3 {
			o.pass(10 * time.Minute)
		}
		if o.doc.PKI != before || len(o.doc.Users) != 2 || !strings.Contains(o.notes, c.says) {
			t.Errorf("%s: the same %v, says %q", c.name, o.doc.PKI == before, o.notes)
		}
		if o.phase(v1alpha1.SecretPKI) != "" {
			t.Errorf("%s: a rotation began within half an hour", c.name)
		}
	}
}

// TestACAIsReplacedBeforeItEnds: by itself, once that was seen for an hour without a
// break, and at any time when it cannot sign.
func TestACAIsReplacedBeforeItEnds(t *testing.T) {
	t.Parallel()
	o := newOwner(t)
	o.pass(pki.CALife / 2)
	o.pass(2 * time.Hour)
	if o.phase(v1alpha1.SecretPKI) != "" {
		t.Fatal("at half its life")
	}
	o.pass(pki.CALife / 5)
	o.pass(30 * time.Minute)
	o.now = o.now.Add(-pki.CALife / 2) // the clock is put right
	o.pass(0)
	o.pass(pki.CALife / 2)
	o.pass(59 * time.Minute)
	if o.phase(v1alpha1.SecretPKI) != "" {
		t.Fatal("before an hour without a break")
	}
	old := o.doc.PKI.CA
	o.pass(time.Minute)
	if o.phase(v1alpha1.SecretPKI) != Given || o.doc.PKI.CA != old || !strings.Contains(o.doc.PKI.Trusted(), old.Cert) || o.doc.PKI.Trusted() == old.Cert {
		t.Fatalf("%q, the old CA is trusted: %v", o.phase(v1alpha1.SecretPKI), strings.Contains(o.doc.PKI.Trusted(), old.Cert))
	}
	trusted := o.doc.PKI.Trusted()
	o.pass(0)
	o.hours(24)
	if o.phase(v1alpha1.SecretPKI) != Signing || o.doc.PKI.CA == old || o.doc.PKI.Trusted() != trusted {
		t.Fatalf("%q, the old CA is trusted: %v", o.phase(v1alpha1.SecretPKI), strings.Contains(o.doc.PKI.Trusted(), old.Cert))
	}
	if _, fresh, err := pki.EnsureLeaf(o.now, o.doc.PKI.CA, o.doc.PKI.Leaf, pki.ServiceNames("cluster.local")); fresh || err != nil {
		t.Errorf("the leaf is not of the new CA: %v", err)
	}
	o.pass(0)
	if o.phase(v1alpha1.SecretPKI) != "" || o.doc.PKI.Trusted() != o.doc.PKI.CA.Cert || strings.Contains(o.doc.PKI.Trusted(), old.Cert) {
		t.Errorf("%q, the old CA is still trusted", o.phase(v1alpha1.SecretPKI))
	}
	damaged := newOwner(t)
	damaged.doc.PKI.CA.Key = ""
	damaged.pass(0)
	for range 3 {
		damaged.hours(25)
	}
	if damaged.phase(v1alpha1.SecretPKI) != "" || damaged.notes != "" {
		t.Errorf("a CA without its key is not replaced: %q", damaged.notes)
	}
}

// TestAClockThatJumpsEndsNoRotation: a node that has not heard of the new CA would be
// left with one that signs nothing any more.
func TestAClockThatJumpsEndsNoRotation(t *testing.T) {
	t.Parallel()
	o := newOwner(t)
	o.nodes = []switchover.Node{{Name: "away", UID: "u", Agent: true}}
	o.ask(v1alpha1.SecretPKI, "1")
	o.pass(0)
	old := o.doc.PKI.CA
	for range 3 {
		o.pass(2 * pki.CALife)
		o.pass(time.Minute)
		o.now = o.now.Add(-2 * pki.CALife) // the clock is put right
		o.pass(time.Minute)
	}
	if o.phase(v1alpha1.SecretPKI) != Given || o.doc.PKI.CA != old || !strings.Contains(o.notes, "node away") {
		t.Errorf("%q, another CA signs: %v, says %q", o.phase(v1alpha1.SecretPKI), o.doc.PKI.CA != old, o.notes)
	}
}

// TestPasswordsAreReplaced: asked for by the Secret's annotation, each by itself; the
// proxy accepts both all the time, and knows which is old.
func TestPasswordsAreReplaced(t *testing.T) {
	t.Parallel()
	for _, name := range []string{UserNode, UserClient} {
		o := newOwner(t)
		other := map[string]string{UserNode: UserClient, UserClient: UserNode}[name]
		secret, old, others, switches := UserSecretPrefix+name, o.user(name).Password, o.user(other), o.doc.Switch
		accepts := func(password string) bool {
			for _, u := range o.doc.Accepted() {
				if u.Name == name && u.SHA256 == HashOf(password) {
					return true
				}
			}
			return false
		}
		o.ask(secret, "1")
		o.behind = []string{"p1"}
		o.pass(0)
		o.pass(time.Minute)
		next := o.user(name).Next
		if next == "" || o.user(name).Password != old || !accepts(old) || !accepts(next) || o.phase(secret) != Accepting {
			t.Fatalf("%s: before all proxies know the new one: %q, %q", name, o.phase(secret), o.notes)
		}
		o.behind = nil
		o.pass(0)
		if o.user(name).Password != next || !accepts(old) || !accepts(next) || o.doc.Accepted()[0].SHA256 == HashOf(old) {
			t.Fatalf("%s: after that: %q", name, o.notes)
		}
		o.pass(0)
		o.hours(21)
		o.pass(24 * time.Hour) // the API server was away: who used it then is not known
		if !accepts(old) {
			t.Fatalf("%s: the old one is refused within a day", name)
		}
		o.pass(time.Hour)
		if accepts(old) || !accepts(next) || o.phase(secret) != "" || o.notes != "" {
			t.Errorf("%s: at the end: %q, %q", name, o.phase(secret), o.notes)
		}
		if o.pass(time.Hour); o.user(name).Next != "" {
			t.Errorf("%s: it begins again", name)
		}
		if o.user(other) != others {
			t.Errorf("%s: the other user changed", name)
		}
		if restarts := o.doc.Switch != switches; restarts != (name == UserClient) {
			t.Errorf("%s: Deckhouse reads its registry again: %v", name, restarts)
		}
	}
}

// TestAClockThatJumpsForgetsNoUse: an old password is good until a day was looked at. An
// API server's clock that jumps forwards, and that of the next leader, do not shorten it.
func TestAClockThatJumpsForgetsNoUse(t *testing.T) {
	t.Parallel()
	o := newOwner(t)
	secret := UserSecretPrefix + UserClient
	o.pass(50 * time.Minute) // what it looked at before does not count
	o.ask(secret, "1")
	for range 3 {
		o.pass(0)
	}
	good := func(when string) {
		t.Helper()
		if o.phase(secret) != Given || o.user(UserClient).Previous == "" {
			t.Fatalf("%s: the old password is refused: %q", when, o.notes)
		}
	}
	o.pass(time.Hour)
	o.store.cluster.Clock = ahead(t, func() time.Time { return o.now }, 30*24*time.Hour)
	o.pass(time.Hour)
	good("the API server's clock jumped")
	o.store.cluster.Clock = nil
	o.now = o.now.Add(48 * time.Hour)
	o.store = NewStore(o.store.cluster, "cluster.local", DefaultRotations())
	o.pass(0)
	good("the next leader's clock is ahead")
	for range 21 {
		o.pass(time.Hour)
	}
	o.pass(50 * time.Minute)
	good("a day has not passed")
	o.pass(10 * time.Minute)
	if o.phase(secret) != "" || o.user(UserClient).Previous != "" {
		t.Errorf("after a day: %q, %q", o.phase(secret), o.notes)
	}
}

// ahead is what is known of an API server whose clock is ahead of ours.
func ahead(t *testing.T, ours func() time.Time, by time.Duration) *cluster.Clock {
	t.Helper()
	clock := cluster.NewClock(ours)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Date", ours().Add(by).UTC().Format(http.TimeFormat))
	}))
	defer server.Close()
	resp, err := (&http.Client{Transport: clock.Watch(&http.Transport{DisableKeepAlives: true})}).Get(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	return clock
}

// TestALostStateEndsItsRotation: what was accepted before the loss is accepted after
// it, until that rotation has ended too, and none begins by the loss.
func TestALostStateEndsItsRotation(t *testing.T) {
	t.Parallel()
	secrets := []string{v1alpha1.SecretPKI, UserSecretPrefix + UserNode, UserSecretPrefix + UserClient}
	for passes := range 4 {
		o := newOwner(t)
		for _, name := range secrets {
			o.ask(name, "1")
		}
		for range passes {
			o.pass(0)
		}
		if passes == 3 {
			o.hours(24)
			o.doc.PKI.Leaf, _, _ = pki.EnsureLeaf(o.now, o.doc.PKI.CA, pki.KeyPair{}, nil)
		}
		o.show()
		before := o.doc
		o.doc.PKI, o.doc.Users, o.doc.Rotations = Certificates{}, nil, nil
		o.pass(0)
		if o.doc.PKI.CA != before.PKI.CA || pki.Bundle(o.doc.PKI.Trusted(), before.PKI.Trusted()) != o.doc.PKI.Trusted() {
			t.Errorf("after %d passes: another CA signs, or one is not trusted any more", passes)
		}
		for _, u := range before.Accepted() {
			found := false
			for _, now := range o.doc.Accepted() {
				found = found || now == u
			}
			if !found {
				t.Errorf("after %d passes: a password of %s is refused", passes, u.Name)
			}
		}
		for range 3 {
			o.hours(24)
		}
		if len(o.doc.RotationsUnderWay()) > 0 || len(o.doc.Accepted()) != 2 || o.doc.PKI.Previous != "" {
			t.Errorf("after %d passes: %v, %d passwords, %q", passes, o.doc.RotationsUnderWay(), len(o.doc.Accepted()), o.notes)
		}
	}
}
