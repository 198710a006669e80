package hostile

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"maps"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	deckhousev1alpha1 "github.com/d8-registry/registry/api/deckhouse/v1alpha1"
	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/control/state"
	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/upstream"
	"github.com/d8-registry/registry/test/harness/installation"
)

// puller pulls through the in-cluster proxy all the time, by what it was given last.
type puller struct {
	c    *cluster
	name string
	// given reads what this client has now: a CA, credentials and the name by which it
	// calls.
	given func(context.Context) (access, error)

	mu     sync.Mutex
	pulls  int
	failed []string
}

// access is what a client of the in-cluster proxy needs.
type access struct {
	ca, host    string
	credentials upstream.Credentials
}

func (c *cluster) pulls(name string, given func(context.Context) (access, error)) *puller {
	p := &puller{c: c, name: name, given: given}
	installation.Background(c.t, func(ctx context.Context) error {
		for ; ctx.Err() == nil; installation.Pause(5 * time.Millisecond) {
			a, err := given(ctx)
			if err == nil {
				err = c.pullBy(ctx, a)
			}
			p.mu.Lock()
			if p.pulls++; err != nil && ctx.Err() == nil {
				p.failed = append(p.failed, fmt.Sprintf("pull %d: %v", p.pulls, err))
			}
			p.mu.Unlock()
		}
		return nil
	})
	return p
}

// want fails the test for each pull that failed.
func (p *puller) want(t *testing.T) {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	t.Logf("%s: %d of %d pulls failed", p.name, len(p.failed), p.pulls)
	if len(p.failed) > 0 || p.pulls < 50 {
		t.Errorf("%s: %d of %d pulls failed: %s", p.name, len(p.failed), p.pulls, strings.Join(p.failed[:min(len(p.failed), 3)], "; "))
	}
}

// pullBy asks for a manifest on a connection of its own, as a new client does.
func (c *cluster) pullBy(ctx context.Context, a access) error {
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM([]byte(a.ca)) {
		return fmt.Errorf("no CA: %q", a.ca)
	}
	transport := &http.Transport{
		DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, c.proxy)
		},
	}
	defer transport.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+a.host+"/v2/"+layout.Fixed().Path+"/manifests/v1", nil)
	if err != nil {
		return err
	}
	req.SetBasicAuth(a.credentials.Username, a.credentials.Password)
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s", resp.Status)
	}
	return nil
}

// bySecret is a client in the cluster: it reads deckhouse-registry before each pull.
func (c *cluster) bySecret(ctx context.Context) (access, error) {
	var secret corev1.Secret
	if err := c.Get(ctx, client.ObjectKey{Namespace: v1alpha1.Namespace, Name: v1alpha1.SecretRegistry}, &secret); err != nil {
		return access{}, err
	}
	var config struct {
		Auths map[string]upstream.Credentials
	}
	if err := json.Unmarshal(secret.Data[corev1.DockerConfigJsonKey], &config); err != nil {
		return access{}, err
	}
	return access{string(secret.Data["ca"]), layout.Fixed().Host, config.Auths[layout.Fixed().Host]}, nil
}

// byNode is containerd of a node whose agent is down: it has the fallback of the
// layout that this node has reported last.
func (c *cluster) byNode(name string) func(context.Context) (access, error) {
	known := map[int64]access{}
	return func(ctx context.Context) (access, error) {
		var secret corev1.Secret
		if err := c.Get(ctx, client.ObjectKey{Namespace: v1alpha1.Namespace, Name: v1alpha1.SecretLayout}, &secret); err != nil {
			return access{}, err
		}
		l, err := layout.Decode(secret.Data[v1alpha1.KeyLayout])
		if err != nil {
			return access{}, err
		}
		known[l.Generation] = access{l.Fallback.CA, l.Fallback.Host, l.Fallback.Credentials}
		var rn v1alpha1.RegistryNode
		if err := c.Get(ctx, client.ObjectKey{Name: name}, &rn); err != nil {
			return access{}, err
		}
		has, ok := known[rn.Status.Generation]
		if !ok { // reported while this pull was prepared
			has = known[l.Generation]
		}
		return has, nil
	}
}

// moduleSays waits until Module registry says something.
func (c *cluster) moduleSays(text string) string {
	c.t.Helper()
	said := ""
	for deadline := time.Now().Add(stepTimeout); ; installation.Pause(30 * time.Millisecond) {
		var module deckhousev1alpha1.Module
		if err := c.Get(c.t.Context(), client.ObjectKey{Name: v1alpha1.ModuleName}, &module); err == nil {
			for _, condition := range module.Status.Conditions {
				if said = condition.Message; condition.Type == deckhousev1alpha1.ConditionIsReady && strings.Contains(said, text) {
					return said
				}
			}
		}
		if time.Now().After(deadline) {
			c.t.Fatalf("Module registry does not say %q within %s, but %q", text, stepTimeout, said)
		}
	}
}

// annotate is the operator's order.
func (c *cluster) annotate(value string, secrets ...string) {
	c.t.Helper()
	for _, name := range secrets {
		secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: v1alpha1.Namespace, Name: name}}
		patch := client.RawPatch("application/merge-patch+json", []byte(`{"metadata":{"annotations":{"`+v1alpha1.AnnotationRotate+`":"`+value+`"}}}`))
		if err := c.Patch(c.t.Context(), secret, patch); err != nil {
			c.t.Fatal(err)
		}
	}
}

// document is the controller's state.
func (c *cluster) document() state.Document {
	c.t.Helper()
	var secret corev1.Secret
	if err := c.Get(c.t.Context(), client.ObjectKey{Namespace: v1alpha1.Namespace, Name: v1alpha1.SecretState}, &secret); err != nil && !apierrors.IsNotFound(err) {
		c.t.Fatal(err)
	}
	doc, err := state.Decode(secret.Data[state.KeyState])
	if err != nil {
		c.t.Fatal(err)
	}
	return doc
}

// ended waits until no rotation is under way.
func (c *cluster) ended() state.Document {
	c.t.Helper()
	var doc state.Document
	c.Until("all rotations have ended", func(installation.Conditions) bool {
		doc = c.document()
		return len(doc.RotationsUnderWay()) == 0
	})
	return doc
}

// TestRotation replaces the CA and all passwords while clients pull all the time, with
// a node that is away and comes back in the middle. No pull fails, the node is named,
// and what was stolen before is of no use at the end.
func TestRotation(t *testing.T) {
	t.Parallel()
	c := newCluster(t, "master", "worker", "away")
	c.rotations = state.Rotations{Idle: 500 * time.Millisecond, Seen: time.Hour}
	c.runPods()
	c.start()
	c.Until("Unmanaged is Ready", func(all installation.Conditions) bool { return all.Done(v1alpha1.ConditionReady) })
	c.Ask(installation.Direct(c.b.Upstream(pathB)))
	c.Until("Direct is Ready", func(all installation.Conditions) bool {
		return all.Done(v1alpha1.ConditionReady) && all.Done(v1alpha1.ConditionProxy)
	})

	for _, p := range []*puller{c.pulls("client", c.bySecret), c.pulls("worker", c.byNode("worker")), c.pulls("away", c.byNode("away"))} {
		defer p.want(t)
	}
	stolenSecret, err := c.bySecret(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	stolenNode, err := c.byNode("away")(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	before := c.document()

	c.mu.Lock()
	c.liars["away"] = true // it stays as it reported last
	c.mu.Unlock()
	c.annotate("1", v1alpha1.SecretPKI, state.UserSecretPrefix+state.UserClient, state.UserSecretPrefix+state.UserNode)
	var rn v1alpha1.RegistryNode
	if err := c.Get(t.Context(), client.ObjectKey{Name: "away"}, &rn); err != nil {
		t.Fatal(err)
	}
	for _, of := range []string{v1alpha1.SecretPKI, state.UserSecretPrefix + state.UserNode} {
		t.Log(c.moduleSays(fmt.Sprintf("Rotation of Secret %s waits for node away, which serves generation %d.", of, rn.Status.Generation)))
	}
	if !c.Conditions().Done(v1alpha1.ConditionReady) {
		t.Error("a rotation makes Ready False")
	}
	if err := c.pullBy(t.Context(), stolenNode); err != nil {
		t.Errorf("with a node away its credentials are refused: %v", err)
	}
	c.mu.Lock()
	delete(c.liars, "away")
	c.mu.Unlock()
	after := c.ended()

	for name, same := range map[string]bool{
		"CA": before.PKI.CA == after.PKI.CA, "leaf": before.PKI.Leaf == after.PKI.Leaf,
		"client": before.Users[1].Password == after.Users[1].Password, "node": before.Users[0].Password == after.Users[0].Password,
	} {
		if same {
			t.Errorf("%s is as it was before", name)
		}
	}
	now, err := c.bySecret(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for who, a := range map[string]access{"client": stolenSecret, "node": stolenNode} {
		if err := c.pullBy(t.Context(), a); err == nil || !strings.Contains(err.Error(), "unknown authority") {
			t.Errorf("the old CA of %s is good for the new certificate: %v", who, err)
		}
		a.ca = now.ca
		if err := c.pullBy(t.Context(), a); err == nil || !strings.Contains(err.Error(), "401") {
			t.Errorf("the old password of %s: %v", who, err)
		}
	}
	c.Until("the old CA is shown nowhere", func(installation.Conditions) bool { return !strings.Contains(c.texts(), first(before.PKI.CA.Cert)) })
	note(t, nodeOwner, "credentials and CA of the in-cluster proxy that were taken from a node before a rotation", "401 and an unknown authority; no pull of others failed")
}

// texts are the layout and the Secrets that clients read.
func (c *cluster) texts() string {
	c.t.Helper()
	all := ""
	for _, name := range []string{v1alpha1.SecretLayout, v1alpha1.SecretRegistry, v1alpha1.SecretPKI} {
		var secret corev1.Secret
		if err := c.Get(c.t.Context(), client.ObjectKey{Namespace: v1alpha1.Namespace, Name: name}, &secret); err != nil {
			c.t.Fatal(err)
		}
		for value := range maps.Values(secret.Data) {
			all += strings.Join(strings.Fields(string(value)), "")
		}
	}
	return all
}

// first is a line of a certificate that no other one has.
func first(cert string) string {
	block, _ := pem.Decode([]byte(cert))
	return strings.Split(string(pem.EncodeToMemory(block)), "\n")[4]
}
