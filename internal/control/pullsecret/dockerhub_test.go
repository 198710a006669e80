package pullsecret

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/d8-registry/registry/internal/control/state"
	"github.com/d8-registry/registry/internal/control/switchover"
	"github.com/d8-registry/registry/internal/upstream"
)

// TestDockerHubsCredentialsAreFound: installers, docker login and people spell it
// in many ways.
func TestDockerHubsCredentialsAreFound(t *testing.T) {
	t.Parallel()
	want := upstream.Credentials{Username: "u", Password: "p"}
	for _, address := range []string{"docker.io", "index.docker.io", "registry-1.docker.io", "registry.hub.docker.com"} {
		for _, host := range []string{"docker.io", "index.docker.io", "registry-1.docker.io", "registry.hub.docker.com", "Index.Docker.IO"} {
			for _, form := range []string{"%", "https://%", "https://%/", "https://%/v1/", "https://%/v2/", "http://%/v1", "%/team"} {
				key := strings.ReplaceAll(form, "%", host)
				u, problem := Installation(registrySecret(address, "/team/ee", `{"auths":{"r.io":{"auth":"YTpi"},"`+key+`":{"auth":"dTpw"}}}`))
				if problem != "" || u.Credentials != want {
					t.Errorf("%s with %s: %v, %s", address, key, u.Credentials, problem)
				}
			}
		}
	}
	// The address itself counts before its other names, as for kubelet.
	u, problem := Installation(registrySecret("docker.io", "/team/ee", `{"auths":{"https://index.docker.io/v1/":{"auth":"eDp5"},"docker.io":{"auth":"dTpw"}}}`))
	if problem != "" || u.Credentials != want {
		t.Errorf("%v, %s", u.Credentials, problem)
	}
}

// TestPullSecretsOfDockerHubHaveBothKeys: kubelet looks for docker.io, libraries
// that read what docker login writes for the URL.
func TestPullSecretsOfDockerHubHaveBothKeys(t *testing.T) {
	t.Parallel()
	var doc state.Document
	u := upstream.Upstream{Host: "docker.io", Path: "team/ee", Scheme: upstream.HTTPS, Credentials: upstream.Credentials{Username: "u", Password: "p"}}
	doc.Desired.Registry = switchover.Target{Mode: switchover.Unmanaged, Upstream: u}
	doc.Desired.PullSecrets, doc.Desired.Bootstrap = []switchover.Target{doc.Desired.Registry}, []upstream.Upstream{u}
	left := registrySecret("docker.io", "", `{"auths":{"registry-1.docker.io":{"auth":"b2xkOm9sZA=="},"index.docker.io":{"auth":"b2xkOm9sZA=="}}}`)
	for what, data := range map[string][]byte{
		"deckhouse-registry": RegistryChange(view(doc, left)).Data[corev1.DockerConfigJsonKey],
		"registry-bootstrap": bootstrap(doc)[corev1.DockerConfigJsonKey],
	} {
		var config dockerConfig
		if err := json.Unmarshal(data, &config); err != nil {
			t.Fatal(err)
		}
		if keys := slices.Sorted(maps.Keys(config.Auths)); strings.Join(keys, " ") != "docker.io https://index.docker.io/v1/" {
			t.Errorf("%s has keys %v", what, keys)
		}
		for key, auth := range config.Auths {
			if auth != newAuth(u.Credentials) {
				t.Errorf("%s has other credentials under %s", what, key)
			}
		}
	}
}
