package pullsecret

import (
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/control/cluster"
	"github.com/d8-registry/registry/internal/control/excerpt"
	"github.com/d8-registry/registry/internal/control/state"
	"github.com/d8-registry/registry/internal/control/switchover"
	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/upstream"
	"github.com/d8-registry/registry/test/harness/fleet"
)

// view is a cluster with this deckhouse-registry and nothing else.
func view(doc state.Document, registry *corev1.Secret) *state.View {
	v := with(fleet.Empty(), doc)
	v.Registry = registry
	return v
}

// with is the view with another document.
func with(v *state.View, doc state.Document) *state.View {
	v.Doc = doc
	return v
}

func registrySecret(address, path, docker string) *corev1.Secret {
	return &corev1.Secret{Data: map[string][]byte{
		keyAddress: []byte(address), keyPath: []byte(path), keyScheme: []byte("https"), corev1.DockerConfigJsonKey: []byte(docker),
	}}
}

func TestInstallation(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		secret  *corev1.Secret
		want    upstream.Credentials
		problem string
	}{
		{name: "user and password", secret: registrySecret("r.io", "/d8/ee", `{"auths":{"r.io":{"username":"u","password":"p"}}}`), want: upstream.Credentials{Username: "u", Password: "p"}},
		{name: "auth only", secret: registrySecret("r.io", "/d8/ee", `{"auths":{"r.io":{"auth":"dTpwOnE="}}}`), want: upstream.Credentials{Username: "u", Password: "p:q"}},
		{name: "the longest key", secret: registrySecret("r.io", "/d8/ee", `{"auths":{"r.io":{"auth":"YTph"},"https://r.io/d8":{"username":"u","password":"p"},"r.io/d8/e":{"auth":"YTph"}}}`), want: upstream.Credentials{Username: "u", Password: "p"}},
		{name: "as Docker spells it", secret: registrySecret("R.io", "/d8/ee", `{"auths":{"https://R.io/v1/":{"auth":"dTpw"}}}`), want: upstream.Credentials{Username: "u", Password: "p"}},
		{name: "two spellings of one", secret: registrySecret("r.io", "/d8/ee", `{"auths":{"https://r.io":{"auth":"YTph"},"r.io":{"auth":"dTpw"},"http://r.io/":{"auth":"YTpi"},"R.io/":{"auth":"YTpj"}}}`), want: upstream.Credentials{Username: "a", Password: "c"}},
		{name: "auth counts first, as for kubelet", secret: registrySecret("r.io", "/d8/ee", `{"auths":{"r.io":{"username":"x","password":"old","auth":"dTpw"}}}`), want: upstream.Credentials{Username: "u", Password: "p"}},
		{name: "auth without padding", secret: registrySecret("r.io", "/d8/ee", `{"auths":{"r.io":{"auth":"dTpwOnE"}}}`), want: upstream.Credentials{Username: "u", Password: "p:q"}},
		{name: "a token for a password", secret: registrySecret("r.io", "/d8/ee", `{"auths":{"r.io":{"auth":"dTo=","identitytoken":"SECRET"}}}`), problem: "r.io has a token instead of a password"},
		{name: "made with echo", secret: registrySecret("r.io", "/d8/ee", `{"auths":{"r.io":{"username":"u","password":"SECRET\n"}}}`), problem: "password: is one line with a line break"},
		{name: "anonymous", secret: registrySecret("r.io", "/d8/ee", `{"auths":{"r.io":{}}}`)},
		{name: "nothing", secret: registrySecret("r.io", "/d8/ee", "")},
		{name: "no secret", problem: "does not exist"},
		{name: "no address", secret: registrySecret("", "/d8", ""), problem: "Registry address is required."},
		{name: "the fixed address", secret: registrySecret("Registry.d8-system.svc:5001", "/system/deckhouse", ""), problem: "fixed address"},
		{name: "no JSON", secret: registrySecret("r.io", "/d8", "SECRET"), problem: "no docker configuration"},
		{name: "no base64", secret: registrySecret("r.io", "/d8", `{"auths":{"r.io":{"auth":"SECRET!"}}}`), problem: "auth of r.io is no base64"},
		{name: "no colon", secret: registrySecret("r.io", "/d8", `{"auths":{"r.io":{"auth":"dTpw"},"r.io/d8":{"auth":"U0VDUkVU"}}}`), problem: "no user name and password"},
	} {
		u, problem := Installation(c.secret)
		if !strings.Contains(problem, c.problem) || (problem == "") != (c.problem == "") {
			t.Errorf("%s: got problem %q, want %q", c.name, problem, c.problem)
		}
		if strings.Contains(problem, "SECRET") {
			t.Errorf("%s: the problem quotes a secret", c.name)
		}
		if c.problem == "" && (u.Credentials != c.want || u.Base() != "r.io/d8/ee") {
			t.Errorf("%s: got %s with other credentials", c.name, u)
		}
	}
}

// TestWhatIsWrittenIsReadBack: in Unmanaged the Secret that we wrote must name
// exactly the active upstream. Otherwise it looks like a user's edit and starts a
// switch.
func TestWhatIsWrittenIsReadBack(t *testing.T) {
	t.Parallel()
	for _, u := range []upstream.Upstream{
		{Host: "r.io:5000", Path: "d8/ee", Scheme: upstream.HTTPS, Credentials: upstream.Credentials{Username: "u", Password: `p"':\ü`}},
		{Host: "r.io", Scheme: upstream.HTTPS},
		{Host: "10.0.0.1:5000", Path: "x", Scheme: upstream.HTTP},
		{Host: "[fd00::1]:5000", Path: "x", Scheme: upstream.HTTPS, Credentials: upstream.Credentials{Username: "_json_key", Password: "{\n}\n"}},
		{Host: "docker.io", Path: "team/ee", Scheme: upstream.HTTPS, Credentials: upstream.Credentials{Username: "u", Password: "p"}},
	} {
		var doc state.Document
		doc.Desired.Registry = switchover.Target{Mode: switchover.Unmanaged, Upstream: u}
		doc.Desired.PullSecrets = []switchover.Target{doc.Desired.Registry, {Mode: switchover.Direct, Upstream: u}}
		secret := RegistryChange(view(doc, nil))
		if got, problem := Installation(secret); got != u {
			t.Errorf("%s is read back as %s (%s)", u, got, problem)
		}
		if again := RegistryChange(view(doc, secret)); again != nil {
			t.Errorf("%s: what was just written is to be written again", u)
		}
	}
}

// TestWhateverWasThereWhatIsWrittenIsReadBack is the same for any two registries
// of one switch, and for every spelling that installers use.
func TestWhateverWasThereWhatIsWrittenIsReadBack(t *testing.T) {
	t.Parallel()
	var all []upstream.Upstream
	for _, host := range []string{"a.io", "b.io:5000", "docker.io", "registry-1.docker.io"} {
		for _, path := range []string{"", "d8", "d8/ee", "new"} {
			if strings.HasSuffix(host, "docker.io") && len(path) > 2 {
				continue // two paths of each name of Docker Hub are enough
			}
			for _, password := range []string{"", "p", "q"} {
				u := upstream.Upstream{Host: host, Path: path, Scheme: upstream.HTTPS}
				if password != "" {
					u.Credentials = upstream.Credentials{Username: "u", Password: password}
				}
				all = append(all, u)
			}
		}
	}
	written := registrySecret("a.io", "/d8/ee", `{"auths":{"a.io":{"auth":"eDpsZWZ0"},"a.io/d8/ee":{"auth":"eDpsZWZ0"},"https://a.io/v1/":{"auth":"eDpsZWZ0"},"A.IO/new":{"auth":"eDpsZWZ0"},"b.io:5000/d8":{"auth":"eDpsZWZ0"},"https://index.docker.io/v1/":{"auth":"eDpsZWZ0"},"docker.io/d8":{"auth":"eDpsZWZ0"},"c.io":{"auth":"bWluZTptaW5l"}}}`)
	for _, wanted := range all {
		for _, before := range all {
			doc := state.Document{Users: []state.User{{Credentials: upstream.Credentials{Username: state.UserClient, Password: "generated"}}}}
			target := switchover.Target{Mode: switchover.Unmanaged, Upstream: wanted}
			doc.Active, doc.Target, doc.Desired.Registry = switchover.Target{Mode: switchover.Unmanaged, Upstream: before}, target, target
			doc.Desired.PullSecrets = []switchover.Target{target, doc.Active, {Mode: switchover.Direct, Upstream: before}}
			secret := RegistryChange(view(doc, written))
			if got, problem := Installation(secret); got != wanted {
				t.Fatalf("%s beside %s is read back as %s (%s)\n%s", wanted, before, got, problem, secret.Data[corev1.DockerConfigJsonKey])
			}
			if RegistryChange(view(doc, secret)) != nil {
				t.Fatalf("%s beside %s: what was just written is to be written again", wanted, before)
			}
			if wanted.Base() != before.Base() {
				if got, err := CredentialsFor(secret.Data[corev1.DockerConfigJsonKey], before.Base()); got != before.Credentials || err != nil {
					t.Fatalf("%s beside %s: pulls from the old one have other credentials: %v\n%s", wanted, before, err, secret.Data[corev1.DockerConfigJsonKey])
				}
			}
			// After Direct the upstream's credentials are gone, however they were spelled.
			direct := switchover.Target{Mode: switchover.Direct, Upstream: wanted}
			doc.Target, doc.Desired.Registry, doc.Desired.PullSecrets = direct, direct, []switchover.Target{direct}
			if secret = RegistryChange(view(doc, secret)); strings.Contains(strings.ToLower(string(secret.Data[corev1.DockerConfigJsonKey])), wanted.Host) {
				t.Fatalf("Direct keeps %s", secret.Data[corev1.DockerConfigJsonKey])
			}
		}
	}
}

func TestPullSecretsKeepWhatIsNotOurs(t *testing.T) {
	t.Parallel()
	a := switchover.Target{Mode: switchover.Unmanaged, Upstream: upstream.Upstream{Host: "a.io", Path: "x", Scheme: upstream.HTTPS, Credentials: upstream.Credentials{Username: "a", Password: "a"}}}
	b := switchover.Target{Mode: switchover.Direct, Upstream: upstream.Upstream{Host: "b.io", Path: "y", Scheme: upstream.HTTPS, Credentials: upstream.Credentials{Username: "b", Password: "password-of-b"}}}
	doc := state.Document{Users: []state.User{{Credentials: upstream.Credentials{Username: state.UserClient, Password: "generated"}}}}
	have := &corev1.Secret{Type: corev1.SecretTypeDockerConfigJson, Data: map[string][]byte{
		corev1.DockerConfigJsonKey: []byte(`{"auths":{"a.io":{"auth":"b2xk"},"https://A.io/v1/":{"auth":"b2xk"},"a.io/x/y":{"auth":"b2xk"},"docker.io":{"auth":"bWluZQ=="}},"credHelpers":{"x":"y"}}`),
	}}
	known := map[string]bool{"a.io": true, layout.Fixed().Host: true}
	both := withAuths(have, "d8-x", auths(doc, []switchover.Target{b, a}), known)
	text := string(both.Data[corev1.DockerConfigJsonKey])
	for _, want := range []string{`"docker.io":{"auth":"bWluZQ=="}`, `"credHelpers":{"x":"y"}`, `"a.io":{"username":"a"`, `"registry.d8-system.svc:5001":{"username":"ro","password":"generated"`} {
		if !strings.Contains(text, want) {
			t.Errorf("the union lacks %s: %s", want, text)
		}
	}
	if strings.Contains(text, "b2xk") {
		t.Errorf("the union holds an installer's spelling: %s", text)
	}
	if strings.Contains(text, "password-of-b") {
		t.Error("a pull secret holds the upstream's credentials")
	}
	if withAuths(both, "d8-x", auths(doc, []switchover.Target{b, a}), known) != nil {
		t.Error("what is as desired is written again")
	}
	final := string(withAuths(both, "d8-x", auths(doc, []switchover.Target{b}), known).Data[corev1.DockerConfigJsonKey])
	if strings.Contains(final, "a.io") || !strings.Contains(final, "docker.io") {
		t.Errorf("after Final: %s", final)
	}
}

// TestWhoGetsAPullSecret: only namespaces that are the platform's by label or list,
// whatever users write into theirs and whatever those are called.
func TestWhoGetsAPullSecret(t *testing.T) {
	t.Parallel()
	platform := map[string]string{"heritage": "deckhouse"}
	target := switchover.Target{Mode: switchover.Unmanaged, Upstream: upstream.Upstream{Host: "r.io", Path: "d8", Scheme: upstream.HTTPS}}
	s := fleet.Empty()
	s.Snapshot = &cluster.Snapshot{
		Inventory: &cluster.Inventory{
			Whose: fleet.Whose(),
			Namespaces: map[string]labels.Set{"platform": platform, "unused": platform, "ending": platform, "left": platform, "tenant": nil, "forged": nil,
				"d8-evil": nil, "kube-evil": nil, "kube-system": nil},
			Ending: map[string]bool{"ending": true},
		},
		Secrets: map[client.ObjectKey]*corev1.Secret{},
	}
	s.Inventory.Whose.Namespaces = []string{"kube-system"}
	s.Inventory.Whose.Workloads = true // of workloads, and not of namespaces
	for _, namespace := range []string{"platform", "d8-evil", "kube-evil", "kube-system", "ending", "tenant"} {
		pod := corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "p", Labels: platform}}
		pod.Spec.ImagePullSecrets = []corev1.LocalObjectReference{{Name: v1alpha1.SecretRegistry}}
		s.Inventory.Pods = append(s.Inventory.Pods, excerpt.PodOf(&pod))
	}
	for _, namespace := range []string{"left", "forged"} {
		id := client.ObjectKey{Namespace: namespace, Name: v1alpha1.SecretRegistry}
		s.Secrets[id] = withAuths(nil, namespace, map[string]dockerAuth{"old.io": {}}, nil)
	}
	for _, c := range []struct {
		registry switchover.Target
		want     string
	}{
		{target, "d8-system kube-system left platform"},
		{switchover.Target{}, "kube-system left platform"}, // d8-system's is the user's
	} {
		var doc state.Document
		doc.Desired.PullSecrets, doc.Desired.Registry = []switchover.Target{target}, c.registry
		var got []string
		for _, secret := range Changes(with(s, doc)) {
			got = append(got, secret.Namespace)
		}
		if slices.Sort(got); strings.Join(got, " ") != c.want {
			t.Errorf("written in %v, want %s", got, c.want)
		}
	}
}

// TestDeckhouseRegistryWaitsForTheNodes: it names the target for the first time
// only when every node knows the target's name.
func TestDeckhouseRegistryWaitsForTheNodes(t *testing.T) {
	t.Parallel()
	doc := fleet.Moving()
	doc.Target = doc.Desired.Registry
	doc.Desired.Workloads = doc.Target.Name()
	s := view(doc, &corev1.Secret{})
	for _, repoint := range []bool{true, false} {
		doc.Desired.Repoint = repoint
		if got := namesTooEarly(with(s, doc)); got == repoint {
			t.Errorf("rollouts may begin: %t, and it is too early: %t", repoint, got)
		}
	}
	cluster.SetAnnotation(s.Registry, v1alpha1.AnnotationRegistryChecksum, doc.RegistryChecksum())
	if namesTooEarly(with(s, doc)) {
		t.Error("what is ours already is not healed")
	}
}

// TestWhatIsProvidedIsRenewed in Secret deckhouse-registry too, while that is the user's:
// an annotation says so. It reads as an upstream without credentials, so that new ones are
// no other registry. Without the annotation it is the user's altogether.
func TestWhatIsProvidedIsRenewed(t *testing.T) {
	t.Parallel()
	u := upstream.Upstream{Host: "r.io", Path: "d8/ee", Scheme: upstream.HTTPS, Provided: true}
	target := switchover.Target{Mode: switchover.Unmanaged, Upstream: u}
	var doc state.Document
	grant := func(password string) {
		doc.Grants = []state.Grant{{Of: u.ID(), Credentials: upstream.Credentials{Username: "AWS", Password: password}}}
	}
	grant("first")
	doc.Desired.Registry, doc.Desired.PullSecrets = target, []switchover.Target{target}
	secret := RegistryChange(view(doc, registrySecret("old.io", "/x", "")))
	if got, problem := Installation(secret); got != u || problem != "" {
		t.Fatalf("read back as %+v, %s", got, problem)
	}
	doc.Desired.Registry = switchover.Target{} // Ready: the user's again
	if changes := Changes(view(doc, secret)); len(changes) > 0 {
		t.Error("what has not changed is written")
	}
	grant("second")
	changes := Changes(view(doc, secret))
	if len(changes) != 1 || !strings.Contains(string(changes[0].Data[corev1.DockerConfigJsonKey]), `"second"`) {
		t.Fatalf("%d changes", len(changes))
	}
	delete(secret.Annotations, v1alpha1.AnnotationCredentials)
	if changes := Changes(view(doc, secret)); len(changes) > 0 {
		t.Error("the user's own is written")
	}
	if got, _ := Installation(secret); got.Provided || got.Credentials.Password != "first" {
		t.Errorf("the user's own is read as %+v", got)
	}
	direct := switchover.Target{Mode: switchover.Direct, Upstream: u}
	doc.Desired.Registry, doc.Desired.PullSecrets = direct, []switchover.Target{direct}
	if left := RegistryChange(view(doc, changes[0])); left.Annotations[v1alpha1.AnnotationCredentials] != "" {
		t.Error("in Direct it still says that its credentials are provided")
	}
}
