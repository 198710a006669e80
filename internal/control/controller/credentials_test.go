package controller

import (
	"encoding/base64"
	"encoding/json"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/dynamic"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/control/state"
	"github.com/d8-registry/registry/internal/control/switchover"
)

// Every object of the cluster that holds a secret of ours is in the table of ADR 4,
// and each row of that table is true.
func TestWhereCredentialsAre(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.begin()
	b := c.upstreamB()
	c.switchTo(b)
	found := map[string]map[string]bool{}
	secrets := map[string]string{
		"registry's password": b.Credentials.Password,
		"password of clients": string(c.secret(state.UserSecretPrefix + state.UserClient).Data["password"]),
		"key of the CA":       strings.Split(string(c.secret(v1alpha1.SecretPKI).Data["ca.key"]), "\n")[1],
		"password of nodes":   string(c.secret(state.UserSecretPrefix + state.UserNode).Data["password"]),
	}
	c.holders(found, "Direct", secrets)
	c.ask(unmanaged)
	c.reaches(switchover.Unmanaged, b)
	c.eventually("the proxy is gone", func() bool { return c.secret(v1alpha1.SecretProxy) == nil })
	c.holders(found, "Unmanaged", secrets)

	page, err := os.ReadFile("../../../docs/adr/0004-whose-credentials-go-where.md")
	if err != nil {
		t.Fatal(err)
	}
	documented := map[string]map[string]bool{}
	row := regexp.MustCompile("(?m)^\\| `([^`]+)`[^|]*\\| ([^|]*) \\| ([^|]*) \\|$")
	for _, m := range row.FindAllStringSubmatch(string(page), -1) {
		for i, mode := range []string{"Direct", "Unmanaged"} {
			for what := range strings.SplitSeq(m[2+i], ", ") {
				if what != "" {
					note(documented, m[1], mode+": "+what)
				}
			}
		}
	}
	for _, object := range slices.Sorted(maps.Keys(found)) {
		t.Log(object, slices.Sorted(maps.Keys(found[object])))
		for what := range found[object] {
			if !documented[object][what] {
				t.Errorf("ADR 4 does not say that %s holds, in %s", object, what)
			}
		}
	}
	for object, all := range documented {
		for what := range all {
			if !found[object][what] {
				t.Errorf("ADR 4 says that %s holds, in %s: it does not", object, what)
			}
		}
	}
}

func note(in map[string]map[string]bool, object, what string) {
	if in[object] == nil {
		in[object] = map[string]bool{}
	}
	in[object][what] = true
}

// holders notes each object of any kind that holds a secret, plain or encoded. Copies
// in other namespaces are one entry.
func (c *testbed) holders(found map[string]map[string]bool, mode string, secrets map[string]string) {
	c.t.Helper()
	c.everyObject(func(o *unstructured.Unstructured) {
		text, err := json.Marshal(o.Object)
		if err != nil {
			c.t.Fatal(err)
		}
		name := o.GetKind() + " " + o.GetName()
		if ns := o.GetNamespace(); ns != "" && ns != v1alpha1.Namespace {
			name += ", copies"
		}
		opened := decoded(string(text), 3)
		for what, secret := range secrets {
			if strings.Contains(opened, secret) {
				note(found, name, mode+": "+what)
			}
		}
	})
}

// everyObject goes through all objects of all kinds that the API server has.
func (c *testbed) everyObject(each func(*unstructured.Unstructured)) {
	c.t.Helper()
	api := c.api.Config()
	kinds, err := discovery.NewDiscoveryClientForConfigOrDie(api).ServerPreferredResources()
	if err != nil {
		c.t.Fatal(err)
	}
	all := dynamic.NewForConfigOrDie(api)
	for _, group := range kinds {
		for _, kind := range group.APIResources {
			if !slices.Contains(kind.Verbs, "list") {
				continue
			}
			version, err := schema.ParseGroupVersion(group.GroupVersion)
			if err != nil {
				c.t.Fatal(err)
			}
			list, err := all.Resource(version.WithResource(kind.Name)).List(c.t.Context(), metav1.ListOptions{})
			if err != nil {
				c.t.Fatal(err)
			}
			for i := range list.Items {
				each(&list.Items[i])
			}
		}
	}
}

var encoded = regexp.MustCompile(`[A-Za-z0-9+/]{16,}={0,2}`)

// decoded is a text and what is in it as base64, also within that.
func decoded(text string, depth int) string {
	out := text
	if depth == 0 {
		return out
	}
	for _, part := range encoded.FindAllString(text, -1) {
		if inner, err := base64.StdEncoding.DecodeString(part); err == nil {
			out += "\n" + decoded(string(inner), depth-1)
		}
	}
	return out
}
