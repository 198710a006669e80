package upstream_test

import (
	"slices"
	"testing"

	"github.com/d8-registry/registry/internal/upstream"
)

func TestDockerHub(t *testing.T) {
	t.Parallel()
	const key = "https://index.docker.io/v1/"
	for host, want := range map[string]struct {
		hub             bool
		reference, asks string
		keys            []string
		names           int
	}{
		"docker.io":               {true, "docker.io", "registry-1.docker.io", []string{"docker.io", key}, 4},
		"index.docker.io":         {true, "docker.io", "registry-1.docker.io", []string{"index.docker.io", key}, 4},
		"registry-1.docker.io":    {true, "registry-1.docker.io", "registry-1.docker.io", []string{"registry-1.docker.io", key}, 4},
		"registry.hub.docker.com": {true, "registry.hub.docker.com", "registry-1.docker.io", []string{"registry.hub.docker.com", key}, 4},
		"hub.docker.com":          {false, "hub.docker.com", "hub.docker.com", []string{"hub.docker.com"}, 1},
		"docker.io:443":           {false, "docker.io:443", "docker.io:443", []string{"docker.io:443"}, 1},
		"mirror.docker.io.evil":   {false, "mirror.docker.io.evil", "mirror.docker.io.evil", []string{"mirror.docker.io.evil"}, 1},
	} {
		if upstream.IsDockerHub(host) != want.hub || upstream.HostInReferences(host) != want.reference || upstream.HostOfAPI(host) != want.asks ||
			!slices.Equal(upstream.KeysOf(host), want.keys) || len(upstream.NamesOf(host)) != want.names || !slices.Contains(upstream.NamesOf(host), host) {
			t.Errorf("%s: %t, %s in references, asked at %s, keys %v, names %v", host, upstream.IsDockerHub(host), upstream.HostInReferences(host),
				upstream.HostOfAPI(host), upstream.KeysOf(host), upstream.NamesOf(host))
		}
	}
	for _, c := range []struct{ host, path, want string }{
		{"docker.io", "alpine", "library/alpine"}, {"index.docker.io", "alpine", "library/alpine"}, {"docker.io", "team/alpine", "team/alpine"},
		{"docker.io", "", ""}, {"registry-1.docker.io", "alpine", "alpine"}, {"r.io", "alpine", "alpine"},
	} {
		if got := upstream.RepositoryOf(c.host, c.path); got != c.want {
			t.Errorf("%s/%s is repository %s, want %s", c.host, c.path, got, c.want)
		}
	}
}
