package credprovider

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestLoad: what is wrong is refused with the field, the value and what would be right.
func TestLoad(t *testing.T) {
	t.Parallel()
	const good = `apiVersion: kubelet.config.k8s.io/v1
kind: CredentialProviderConfig
providers:
- name: ecr-credential-provider
  apiVersion: credentialprovider.kubelet.k8s.io/v1
  matchImages: ["*.dkr.ecr.*.amazonaws.com", "registry.example.com:5000/d8"]
  defaultCacheDuration: 6h
  args: [get-credentials]
  env: [{name: AWS_REGION, value: eu-central-1}]
`
	for _, row := range []struct{ old, with, want string }{
		{"", "", ""},
		{"config.k8s.io/v1", "config.k8s.io/v1alpha1", `apiVersion "kubelet.config.k8s.io/v1alpha1" and kind "CredentialProviderConfig": expected "kubelet.config.k8s.io/v1"`},
		{"kind: Cred", "kind: Bed", "expected"},
		{"ecr-credential-provider", "../sh", `providers[0].name: "../sh": expected the file name of a plugin`},
		{"credentialprovider.kubelet.k8s.io/v1", "credentialprovider.kubelet.k8s.io/v1beta1", `providers[0].apiVersion: "credentialprovider.kubelet.k8s.io/v1beta1": expected "credentialprovider.kubelet.k8s.io/v1"`},
		{`["*.dkr.ecr.*.amazonaws.com", "registry.example.com:5000/d8"]`, "[]", "providers[0].matchImages: expected a pattern"},
		{"registry.example.com:5000/d8", "https://registry.example.com", `providers[0].matchImages: "https://registry.example.com": expected host[:port][/path]`},
		{"com:5000/d8", "com:5000/*", `with * in the host only`},
		{"defaultCacheDuration: 6h", "defaultCacheDuration: -6h", "providers[0].defaultCacheDuration: expected"},
		{"  defaultCacheDuration: 6h\n", "", "providers[0].defaultCacheDuration: expected"},
		{"args:", "tokenAttributes: {}\n  args:", `unknown field "tokenAttributes"`},
	} {
		file := filepath.Join(t.TempDir(), "config.yaml")
		if err := os.WriteFile(file, []byte(strings.Replace(good, row.old, row.with, 1)), 0o600); err != nil {
			t.Fatal(err)
		}
		providers, err := Load(file, "/plugins")
		switch {
		case row.want == "" && (err != nil || providers[0].path != "/plugins/ecr-credential-provider"):
			t.Errorf("%v, %v", providers, err)
		case row.want != "" && (err == nil || !strings.Contains(err.Error(), row.want) || !strings.Contains(err.Error(), file)):
			t.Errorf("%q for %q: %v, want %s", row.with, row.old, err, row.want)
		}
	}
}

// TestMatches: as the kubelet's own table.
func TestMatches(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		pattern, image string
		want           bool
	}{
		{"123456789012.dkr.ecr.eu-central-1.amazonaws.com", "123456789012.dkr.ecr.eu-central-1.amazonaws.com/d8/ee", true},
		{"*.dkr.ecr.*.amazonaws.com", "123456789012.dkr.ecr.eu-central-1.amazonaws.com/d8/ee", true},
		{"*.dkr.ecr.*.amazonaws.com", "123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn/d8/ee", false},
		{"*.azurecr.io", "d8.azurecr.io/ee", true},
		{"*.io", "d8.azurecr.io/ee", false},
		{"app*.k8s.io", "app1.k8s.io/ee", true},
		{"k8s.*", "k8s.io/ee", true},
		{"*.pkg.dev", "europe-docker.pkg.dev/project/d8", true},
		{"registry.io:8080/path", "registry.io:8080/path/d8", true},
		{"registry.io:8080/path", "registry.io:8080/other", false},
		{"registry.io", "registry.io:8080/path", false},
		{"registry.io:8080", "registry.io/path", false},
		{"docker.io", "docker.io/library/x", true},
	} {
		if got := matches(row.pattern, row.image); got != row.want {
			t.Errorf("%s for %s: %t", row.pattern, row.image, got)
		}
	}
	answer := map[string]int{"*.example.com": 1, "registry.example.com": 2, "registry.example.com/d8": 3, "registry.example.com/other": 4}
	if key, ok := best(answer, image); key != "registry.example.com/d8" || !ok {
		t.Errorf("of several keys %q is used", key)
	}
}
