package controller

import (
	"context"
	"errors"
	"log/slog"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
)

// reader is an API server, or a cache, of which only versions matter.
type reader struct {
	client.Reader
	version, node string
	err           error
}

func (r reader) List(_ context.Context, list client.ObjectList, _ ...client.ListOption) error {
	if list.GetObjectKind().GroupVersionKind().Kind == "SecretList" {
		list.SetResourceVersion("1") // they are in another etcd
		return r.err
	}
	list.SetResourceVersion(r.version)
	if nodes, ok := list.(*v1alpha1.RegistryNodeList); ok {
		nodes.Items = []v1alpha1.RegistryNode{{ObjectMeta: metav1.ObjectMeta{ResourceVersion: r.node}}}
	}
	return r.err
}

func TestTheControllerEndsWhenTheClusterIsRestored(t *testing.T) {
	t.Parallel()
	v := &versions{log: slog.New(slog.DiscardHandler)}
	for _, step := range []struct {
		what         string
		live, cached reader
		ends         bool
	}{
		{"the beginning", reader{version: "100"}, reader{node: "90"}, false},
		{"nothing happened", reader{version: "100"}, reader{node: "90"}, false},
		{"it grows", reader{version: "120"}, reader{node: "110"}, false},
		{"the API server is away", reader{version: "1", err: errors.New("refused")}, reader{node: "110"}, false},
		{"what is no number", reader{version: "x"}, reader{node: "y"}, false},
		{"it went back", reader{version: "119"}, reader{node: "110"}, true},
		{"it went back, and grew past the last look", reader{version: "125"}, reader{node: "130"}, true},
	} {
		v.live, v.cached = step.live, step.cached
		if err := v.look(t.Context()); errors.Is(err, errRestored) != step.ends {
			t.Errorf("%s: %v", step.what, err)
		}
	}
}
