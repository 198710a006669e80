package machine_test

import (
	"encoding/base64"
	"fmt"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/d8-registry/registry/test/harness/machine"
)

func TestLoginsAreThoseOfTheKubelet(t *testing.T) {
	t.Parallel()
	const image = "registry.example.com:5000/deckhouse/ee@sha256:00"
	auth := base64.StdEncoding.EncodeToString([]byte("packed:with:colons"))
	tests := []struct {
		name  string
		auths string
		want  []machine.Login
	}{
		{"the host", `"registry.example.com:5000": {"username": "u", "password": "p"}`, []machine.Login{{Username: "u", Password: "p"}}},
		{"packed", `"registry.example.com:5000": {"auth": "` + auth + `"}`, []machine.Login{{Username: "packed", Password: "with:colons"}}},
		{"another port", `"registry.example.com": {"username": "u", "password": "p"}`, []machine.Login{{}}},
		{"another path", `"registry.example.com:5000/other": {"username": "u", "password": "p"}`, []machine.Login{{}}},
		{
			"the longest key first",
			`"registry.example.com:5000": {"username": "host"}, "registry.example.com:5000/deckhouse": {"username": "path"}`,
			[]machine.Login{{Username: "path"}, {Username: "host"}},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			cl := fake.NewClientBuilder().WithObjects(&corev1.Secret{
				ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "pull"},
				Data:       map[string][]byte{corev1.DockerConfigJsonKey: fmt.Appendf(nil, `{"auths": {%s}}`, tt.auths)},
			}).Build()
			got, err := machine.Logins(t.Context(), cl, "ns", []string{"absent", "pull"}, image)
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("logins are %v, want %v", got, tt.want)
			}
		})
	}
}
