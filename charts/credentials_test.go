package charts

import (
	"encoding/base64"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/d8-registry/registry/internal/upstream"
	"github.com/d8-registry/registry/test/harness/apiserver"
)

// TestCredentialsAreCopiedAsTheyAre: nothing in a user name or password means
// something to Helm, and what is refused is not shown.
func TestCredentialsAreCopiedAsTheyAre(t *testing.T) {
	t.Parallel()
	for _, want := range []upstream.Credentials{
		{Username: "_json_key", Password: "{\n\t\"private_key\": \"-----BEGIN\\n+/=\\n\"\n}\n"},
		{Username: "org+robot", Password: "{{ .Values.registry }}"}, {Username: "robot$name", Password: `$(id) a,b=c "\ ü` + "\U0001F511"},
		{Username: "00000000-0000-0000-0000-000000000000", Password: strings.Repeat("x", 4096)}, {Username: "u", Password: " 0x10: yes #"},
	} {
		out := render(t, "-f", "testdata/minimal.yaml", "-f", valuesOf(t, "docker.io/team", want), "-s", "templates/installation.yaml")
		objects, err := apiserver.ParseManifests([]byte(out))
		if err != nil || len(objects) != 1 {
			t.Fatalf("%d objects, %v", len(objects), err)
		}
		encoded, _, _ := unstructured.NestedString(objects[0].Object, "data", ".dockerconfigjson")
		data, err := base64.StdEncoding.DecodeString(encoded)
		if err != nil {
			t.Fatal(err)
		}
		var config struct {
			Auths map[string]struct{ Username, Password, Auth string }
		}
		if err := json.Unmarshal(data, &config); err != nil {
			t.Fatal(err)
		}
		for _, key := range []string{"docker.io", "https://index.docker.io/v1/"} {
			entry := config.Auths[key]
			if got, err := upstream.ParseAuth(entry.Auth); err != nil || got != want || entry.Username != want.Username || entry.Password != want.Password {
				t.Errorf("%s: other credentials under %s: %v", want.Username, key, err)
			}
		}
	}
	const secret = "S3CRET"
	for _, wrong := range []string{secret + "\n", "\t" + secret, strings.Repeat(secret, 1000)} {
		out, err := helm(t, "template", "registry", "registry", "-f", "testdata/minimal.yaml", "-f", valuesOf(t, "r.io/x", upstream.Credentials{Username: "u", Password: wrong}))
		if err == nil || strings.Contains(out, secret) || !strings.Contains(out, "/registry/password") {
			t.Errorf("a wrong password: %v\n%s", err, out)
		}
	}
}

// valuesOf is a file with these credentials.
func valuesOf(t *testing.T, repo string, c upstream.Credentials) string {
	t.Helper()
	data, err := json.Marshal(map[string]any{"registry": map[string]string{"imagesRepo": repo, "username": c.Username, "password": c.Password}})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "values.json")
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}
