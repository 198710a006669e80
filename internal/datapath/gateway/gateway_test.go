package gateway

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"go.uber.org/goleak"

	"github.com/d8-registry/registry/test/harness/apiserver"
	"github.com/d8-registry/registry/test/harness/testregistry"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/datapath/front/fronttest"
	"github.com/d8-registry/registry/internal/layout"
)

var server apiserver.Server

func TestMain(m *testing.M) { os.Exit(server.Main(m)) }

// instance is a running proxy in d8-system, with the rights of deploy/rbac. There
// is one at a time: all read the same Secret.
type instance struct {
	t               *testing.T
	api             kubernetes.Interface // the controller's side
	namespace, pod  string
	clients, health string
	kubeconfig      string
	stop            context.CancelFunc
	ended           chan error
	registry        *testregistry.Registry
}

func startInstance(t *testing.T, change func(*Config)) *instance {
	t.Helper()
	i := newInstance(t)
	i.launch(change)
	return i
}

// newInstance is one that does not run yet.
func newInstance(t *testing.T) *instance {
	t.Helper()
	api := server.Start(t)
	admin, err := kubernetes.NewForConfig(api.Config())
	if err != nil {
		t.Fatal(err)
	}
	i := &instance{t: t, api: admin, namespace: v1alpha1.Namespace, pod: strings.ToLower(strings.ReplaceAll(t.Name(), "/", "-")), ended: make(chan error, 1)}
	i.registry = testregistry.New(t, testregistry.Options{TLS: true, Username: "up", Password: "upstream-secret", Bearer: true})
	i.registry.PushRandom(t, "team/tool", "v1", 2, 300_000)
	process := api.As(t, apiserver.Process{ServiceAccount: "registry-proxy", Namespace: i.namespace, Pod: i.pod})
	t.Cleanup(func() {
		err := admin.CoreV1().Secrets(i.namespace).Delete(context.WithoutCancel(t.Context()), v1alpha1.SecretProxy, metav1.DeleteOptions{})
		if err != nil && !apierrors.IsNotFound(err) {
			t.Error(err)
		}
	})
	i.kubeconfig = apiserver.Kubeconfig(t, process)
	return i
}

// launch runs the process until the test ends, or stop is called.
func (i *instance) launch(change func(*Config)) {
	t := i.t
	t.Helper()
	at := make(chan [2]string, 1)
	cfg := Config{
		Kubeconfig: i.kubeconfig, Listen: "127.0.0.1:0", Health: "127.0.0.1:0",
		Namespace: i.namespace, Pod: i.pod, Secret: v1alpha1.SecretProxy, Drain: 5 * time.Second, ReportEvery: time.Minute,
		listening: func(clients, health string) { at <- [2]string{clients, health} },
	}
	if change != nil {
		change(&cfg)
	}
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	i.stop = stop
	go func() { i.ended <- Run(ctx, cfg, slog.New(slog.NewTextHandler(t.Output(), nil))) }()
	select {
	case addresses := <-at:
		i.clients, i.health = addresses[0], addresses[1]
	case err := <-i.ended:
		stop()
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stop()
		select {
		case err := <-i.ended:
			if err != nil {
				t.Errorf("ended with %v", err)
			}
		case <-time.After(20 * time.Second):
			t.Error("did not end")
		}
	})
}

// put writes the Secret as the controller does.
func (i *instance) put(data map[string][]byte) {
	i.t.Helper()
	secrets := i.api.CoreV1().Secrets(i.namespace)
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.SecretProxy}, Data: data}
	_, err := secrets.Update(i.t.Context(), secret, metav1.UpdateOptions{})
	if apierrors.IsNotFound(err) {
		_, err = secrets.Create(i.t.Context(), secret, metav1.CreateOptions{})
	}
	if err != nil {
		i.t.Fatal(err)
	}
}

// eventually waits for what a watch brings.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(15 * time.Second)
	for !ok() {
		select {
		case <-deadline:
			t.Fatalf("never: %s", what)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (i *instance) annotation(name string) string {
	i.t.Helper()
	pod, err := i.api.CoreV1().Pods(i.namespace).Get(i.t.Context(), i.pod, metav1.GetOptions{})
	if err != nil {
		i.t.Fatal(err)
	}
	return pod.Annotations[name]
}

func (i *instance) readyz() int {
	i.t.Helper()
	req, err := http.NewRequestWithContext(i.t.Context(), http.MethodGet, "http://"+i.health+"/readyz", nil)
	if err != nil {
		i.t.Fatal(err)
	}
	resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req)
	if err != nil {
		return 0
	}
	_ = resp.Body.Close()
	return resp.StatusCode
}

// pull asks for a manifest and returns the status, or 0 with no connection.
func (i *instance) pull(ca, user, password, path string) (int, []byte) {
	i.t.Helper()
	resp, err := i.open(ca, user, password, path)
	if err != nil {
		return 0, []byte(err.Error())
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, []byte(err.Error())
	}
	return resp.StatusCode, body
}

func (i *instance) open(ca, user, password, path string) (*http.Response, error) {
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(ca))
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}, DisableKeepAlives: true}
	req, err := http.NewRequestWithContext(i.t.Context(), http.MethodGet, "https://"+i.clients+path, nil)
	if err != nil {
		i.t.Fatal(err)
	}
	if user != "" {
		req.SetBasicAuth(user, password)
	}
	return transport.RoundTrip(req)
}

const manifest = "/v2/system/deckhouse/tool/manifests/v1"

func TestProxyFromTheSecretToThePull(t *testing.T) {
	i := startInstance(t, nil)
	if code := i.readyz(); code != http.StatusServiceUnavailable {
		t.Fatalf("ready before there is a Secret: %d", code)
	}
	good := fronttest.Content(t, 3, i.registry.Upstream("team"))
	ca := string(good["tls.crt"]) // leaf and CA
	i.put(good)
	eventually(t, "ready", func() bool { return i.readyz() == http.StatusOK })

	for _, tc := range []struct {
		user, password, path string
		want                 int
	}{
		{"ro", fronttest.ClientPassword, manifest, 200},
		{"node", fronttest.NodePassword, manifest + "?ns=registry.d8-system.svc%3A5001", 200},
		{"ro", fronttest.ClientPassword, "/v2/", 200},
		{"", "", "/v2/", 401}, {"", "", manifest, 401}, {"ro", fronttest.NodePassword, manifest, 401},
		{"ro", fronttest.ClientPassword, "/v2/other/tool/manifests/v1", 404},
		{"ro", fronttest.ClientPassword, manifest + "?ns=registry.example.com", 404},
	} {
		if got, body := i.pull(ca, tc.user, tc.password, tc.path); got != tc.want {
			t.Errorf("%s %s: %d, want %d: %s", tc.user, tc.path, got, tc.want, body)
		}
	}
	eventually(t, "generation on our Pod", func() bool { return i.annotation(v1alpha1.AnnotationGeneration) == "3" })
	eventually(t, "last use on our Pod", func() bool { return i.annotation(v1alpha1.AnnotationLastUse) != "" })
	if c := i.annotation(v1alpha1.AnnotationLastClient); c != "127.0.0.1" {
		t.Errorf("last client %q", c)
	}
	if v := i.annotation(v1alpha1.AnnotationVersion); len(v) != 64 {
		t.Errorf("version %q", v)
	}

	// A new layout, another certificate and other users, without a restart.
	next := fronttest.Content(t, 4, i.registry.Upstream("nowhere"))
	i.put(next)
	eventually(t, "generation 4", func() bool { return i.annotation(v1alpha1.AnnotationGeneration) == "4" })
	if got, body := i.pull(string(next["tls.crt"]), "ro", fronttest.ClientPassword, manifest); got != http.StatusNotFound {
		t.Errorf("after the new layout: %d %s", got, body)
	}
	if got, _ := i.pull(ca, "ro", fronttest.ClientPassword, manifest); got != 0 {
		t.Error("the old certificate is still used")
	}

	// An older one changes nothing and is told of; deletion changes nothing.
	i.put(fronttest.With(next, v1alpha1.KeyProxyLayout, string(good[v1alpha1.KeyProxyLayout])))
	eventually(t, "the problem on our Pod", func() bool { return strings.Contains(i.annotation(v1alpha1.AnnotationMessage), "older than 4") })
	if g := i.annotation(v1alpha1.AnnotationGeneration); g != "4" {
		t.Errorf("generation %s", g)
	}
	if err := i.api.CoreV1().Secrets(i.namespace).Delete(t.Context(), v1alpha1.SecretProxy, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	if got, _ := i.pull(string(next["tls.crt"]), "ro", fronttest.ClientPassword, manifest); got != http.StatusNotFound || i.readyz() != http.StatusOK {
		t.Errorf("after deletion: %d", got)
	}
	i.put(fronttest.Content(t, 5, i.registry.Upstream("team")))
	eventually(t, "no problem on our Pod", func() bool {
		return i.annotation(v1alpha1.AnnotationMessage) == "" && i.annotation(v1alpha1.AnnotationGeneration) == "5"
	})
}

// A generation is reported once its target alone serves the image that it must have.
// Clients are served meanwhile, by whoever can.
func TestTheTargetAloneIsProved(t *testing.T) {
	i := startInstance(t, nil)
	target := testregistry.New(t, testregistry.Options{})
	target.PushRandom(t, "mirror", "module", 1, 10)
	target.SetFaults(testregistry.Faults{Answer: testregistry.WebPage})
	good := fronttest.Content(t, 1, i.registry.Upstream("team"), target.Upstream("mirror"))
	next, err := layout.Decode(good[v1alpha1.KeyProxyLayout])
	if err != nil {
		t.Fatal(err)
	}
	next.Target, next.Probe = target.Upstream("mirror"), ":module"
	encoded, err := layout.Encode(next)
	if err != nil {
		t.Fatal(err)
	}
	i.put(fronttest.With(good, v1alpha1.KeyProxyLayout, string(encoded)))
	eventually(t, "the reason on our Pod", func() bool {
		return strings.Contains(i.annotation(v1alpha1.AnnotationMessage), "answered with a web page")
	})
	if g := i.annotation(v1alpha1.AnnotationGeneration); g != "" {
		t.Errorf("reports that it serves generation %s", g)
	}
	if got, body := i.pull(string(good["tls.crt"]), "ro", fronttest.ClientPassword, "/v2/system/deckhouse/tool/manifests/v1"); got != http.StatusOK {
		t.Errorf("clients of the other registry: %d %s", got, body)
	}
	target.SetFaults(testregistry.Faults{})
	eventually(t, "generation 1", func() bool {
		return i.annotation(v1alpha1.AnnotationGeneration) == "1" && i.annotation(v1alpha1.AnnotationMessage) == ""
	})
}

// Told to stop, it is not ready any more, serves on for a while, and lets a
// pull that is under way end.
func TestDrain(t *testing.T) {
	i := startInstance(t, func(c *Config) { c.DrainDelay, c.Drain = 3*time.Second, 20*time.Second })
	good := fronttest.Content(t, 1, i.registry.Upstream("team"))
	i.put(good)
	eventually(t, "ready", func() bool { return i.readyz() == http.StatusOK })
	i.registry.SetFaults(testregistry.Faults{Latency: 5 * time.Second})
	done := make(chan int, 1)
	go func() {
		code, _ := i.pull(string(good["tls.crt"]), "ro", fronttest.ClientPassword, manifest)
		done <- code
	}()
	eventually(t, "the pull under way", func() bool { return len(i.registry.Requests()) > 0 })
	i.stop()
	if code, _ := i.pull(string(good["tls.crt"]), "ro", fronttest.ClientPassword, "/v2/"); code != http.StatusOK || i.readyz() != http.StatusOK {
		t.Errorf("a request during the delay: %d, ready %d", code, i.readyz())
	}
	eventually(t, "not ready", func() bool { return i.readyz() == http.StatusServiceUnavailable })
	if code := <-done; code != http.StatusOK {
		t.Errorf("the pull under way: %d", code)
	}
}

func TestNoGoroutineIsLeft(t *testing.T) {
	// The first life opens what the test itself keeps: its own connections to
	// the API server.
	t.Run("first", life)
	before := goleak.IgnoreCurrent()
	t.Run("second", life)
	if err := goleak.Find(before); err != nil {
		t.Error(err)
	}
}

func life(t *testing.T) {
	i := startInstance(t, nil)
	good := fronttest.Content(t, 1, i.registry.Upstream("team"))
	i.put(good)
	eventually(t, "ready", func() bool { return i.readyz() == http.StatusOK })
	if code, body := i.pull(string(good["tls.crt"]), "ro", fronttest.ClientPassword, manifest); code != http.StatusOK {
		t.Errorf("%d %s", code, body)
	}
}

func TestWhatItCannotStartWithout(t *testing.T) {
	t.Parallel()
	log := slog.New(slog.DiscardHandler)
	for name, cfg := range map[string]Config{
		"no pod":        {Namespace: "x"},
		"no kubeconfig": {Namespace: "x", Pod: "y", Kubeconfig: "/nonexistent"},
	} {
		if err := Run(t.Context(), cfg, log); err == nil || errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
