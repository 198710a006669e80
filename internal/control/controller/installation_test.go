package controller

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/d8-registry/registry/internal/control/switchover"
	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/upstream"
)

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
		{name: "anonymous", secret: registrySecret("r.io", "/d8/ee", `{"auths":{"r.io":{}}}`)},
		{name: "nothing", secret: registrySecret("r.io", "/d8/ee", "")},
		{name: "no secret", problem: "does not exist"},
		{name: "no address", secret: registrySecret("", "/d8", ""), problem: "Registry address is required."},
		{name: "the fixed address", secret: registrySecret("Registry.d8-system.svc:5001", "/system/deckhouse", ""), problem: "fixed address"},
		{name: "no JSON", secret: registrySecret("r.io", "/d8", "SECRET"), problem: "no docker configuration"},
		{name: "no base64", secret: registrySecret("r.io", "/d8", `{"auths":{"r.io":{"auth":"SECRET!"}}}`), problem: "auth of r.io is no base64"},
		{name: "no colon", secret: registrySecret("r.io", "/d8", `{"auths":{"r.io":{"auth":"dTpw"},"r.io/d8":{"auth":"U0VDUkVU"}}}`), problem: "no user name and password"},
	} {
		u, problem := installation(c.secret)
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
// exactly the active upstream, or a switch would follow it as a user's edit.
func TestWhatIsWrittenIsReadBack(t *testing.T) {
	t.Parallel()
	for _, u := range []upstream.Upstream{
		{Host: "r.io:5000", Path: "d8/ee", Scheme: upstream.HTTPS, Credentials: upstream.Credentials{Username: "u", Password: `p"':\ü`}},
		{Host: "r.io", Scheme: upstream.HTTPS},
		{Host: "10.0.0.1:5000", Path: "x", Scheme: upstream.HTTP},
	} {
		var doc document
		doc.Desired.Registry = switchover.Target{Mode: switchover.Unmanaged, Upstream: u}
		doc.Desired.PullSecrets = []switchover.Target{doc.Desired.Registry, {Mode: switchover.Direct, Upstream: u}}
		secret := registryChange(&sight{}, doc)
		if got, problem := installation(secret); got != u {
			t.Errorf("%s is read back as %s (%s)", u, got, problem)
		}
		if again := registryChange(&sight{registrySecret: secret}, doc); again != nil {
			t.Errorf("%s: what was just written is to be written again", u)
		}
	}
}

// TestWhateverWasThereWhatIsWrittenIsReadBack is the same over any two
// registries that a switch may hold together, and whatever an installer wrote.
func TestWhateverWasThereWhatIsWrittenIsReadBack(t *testing.T) {
	t.Parallel()
	var all []upstream.Upstream
	for _, host := range []string{"a.io", "b.io:5000"} {
		for _, path := range []string{"", "d8", "d8/ee", "new"} {
			for _, password := range []string{"", "p", "q"} {
				u := upstream.Upstream{Host: host, Path: path, Scheme: upstream.HTTPS}
				if password != "" {
					u.Credentials = upstream.Credentials{Username: "u", Password: password}
				}
				all = append(all, u)
			}
		}
	}
	written := registrySecret("a.io", "/d8/ee", `{"auths":{"a.io":{"auth":"eDpsZWZ0"},"a.io/d8/ee":{"auth":"eDpsZWZ0"},"https://a.io/v1/":{"auth":"eDpsZWZ0"},"A.IO/new":{"auth":"eDpsZWZ0"},"b.io:5000/d8":{"auth":"eDpsZWZ0"},"c.io":{"auth":"bWluZTptaW5l"}}}`)
	for _, wanted := range all {
		for _, before := range all {
			doc := document{Users: []user{{Credentials: upstream.Credentials{Username: userClient, Password: "generated"}}}}
			target := switchover.Target{Mode: switchover.Unmanaged, Upstream: wanted}
			doc.Active, doc.Target, doc.Desired.Registry = switchover.Target{Mode: switchover.Unmanaged, Upstream: before}, target, target
			doc.Desired.PullSecrets = []switchover.Target{target, doc.Active, {Mode: switchover.Direct, Upstream: before}}
			secret := registryChange(&sight{registrySecret: written}, doc)
			if got, problem := installation(secret); got != wanted {
				t.Fatalf("%s beside %s is read back as %s (%s)\n%s", wanted, before, got, problem, secret.Data[corev1.DockerConfigJsonKey])
			}
			if registryChange(&sight{registrySecret: secret}, doc) != nil {
				t.Fatalf("%s beside %s: what was just written is to be written again", wanted, before)
			}
			if wanted.Base() != before.Base() {
				if got, err := credentialsFor(secret.Data[corev1.DockerConfigJsonKey], before.Base()); got != before.Credentials || err != nil {
					t.Fatalf("%s beside %s: pulls from the old one have other credentials: %v\n%s", wanted, before, err, secret.Data[corev1.DockerConfigJsonKey])
				}
			}
			// The upstream's credentials leave with Direct, however they were spelled.
			direct := switchover.Target{Mode: switchover.Direct, Upstream: wanted}
			doc.Target, doc.Desired.Registry, doc.Desired.PullSecrets = direct, direct, []switchover.Target{direct}
			if secret = registryChange(&sight{registrySecret: secret}, doc); strings.Contains(strings.ToLower(string(secret.Data[corev1.DockerConfigJsonKey])), wanted.Host) {
				t.Fatalf("Direct keeps %s", secret.Data[corev1.DockerConfigJsonKey])
			}
		}
	}
}

func TestPullSecretsKeepWhatIsNotOurs(t *testing.T) {
	t.Parallel()
	a := switchover.Target{Mode: switchover.Unmanaged, Upstream: upstream.Upstream{Host: "a.io", Path: "x", Scheme: upstream.HTTPS, Credentials: upstream.Credentials{Username: "a", Password: "a"}}}
	b := switchover.Target{Mode: switchover.Direct, Upstream: upstream.Upstream{Host: "b.io", Path: "y", Scheme: upstream.HTTPS, Credentials: upstream.Credentials{Username: "b", Password: "password-of-b"}}}
	doc := document{Users: []user{{Credentials: upstream.Credentials{Username: userClient, Password: "generated"}}}}
	have := &corev1.Secret{Type: corev1.SecretTypeDockerConfigJson, Data: map[string][]byte{
		corev1.DockerConfigJsonKey: []byte(`{"auths":{"a.io":{"auth":"b2xk"},"https://A.io/v1/":{"auth":"b2xk"},"a.io/x/y":{"auth":"b2xk"},"docker.io":{"auth":"bWluZQ=="}},"credHelpers":{"x":"y"}}`),
	}}
	known := map[string]bool{"a.io": true, layout.Fixed().Host: true}
	both := withAuths(have, "d8-x", doc.auths([]switchover.Target{b, a}), known)
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
	if withAuths(both, "d8-x", doc.auths([]switchover.Target{b, a}), known) != nil {
		t.Error("what is as desired is written again")
	}
	final := string(withAuths(both, "d8-x", doc.auths([]switchover.Target{b}), known).Data[corev1.DockerConfigJsonKey])
	if strings.Contains(final, "a.io") || !strings.Contains(final, "docker.io") {
		t.Errorf("after Final: %s", final)
	}
}
