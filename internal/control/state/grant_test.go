package state

import (
	"reflect"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/control/switchover"
	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/upstream"
)

// TestGrantsAreBesideTheState: a state holds no credentials that are provided, what is
// published has those of the moment, and what is read back is what the state holds.
// Without them nothing is published: nodes may have some.
func TestGrantsAreBesideTheState(t *testing.T) {
	t.Parallel()
	a, b, of := layoutsOf()
	a.Provided = true
	now := upstream.Credentials{Username: "AWS", Password: "of-the-moment"}
	var doc Document
	doc.Schema, doc.Target.Upstream, doc.Target.Mode = 1, a, switchover.Direct
	doc.Desired.Layout = of(7, a, b)
	doc.Desired.Layout.Target = a
	if v := (&View{Doc: doc}); v.Doc.Provided()[0] != a || len(v.Doc.Provided()) != 1 {
		t.Errorf("provided are %v", v.Doc.Provided())
	} else if _, err := v.encodeLayout(doc.Desired.Layout); err == nil || !strings.Contains(err.Error(), "no credentials of https://a.example") {
		t.Errorf("published without credentials: %v", err)
	}
	doc.Grants = []Grant{{Of: b.ID(), Credentials: upstream.Credentials{Username: "x", Password: "y"}}, {Of: a.ID(), Credentials: now}}
	data, err := (&View{Doc: doc}).encodeLayout(doc.Desired.Layout)
	if err != nil || !strings.Contains(string(data), "of-the-moment") {
		t.Fatalf("%s, %v", data, err)
	}
	secret := &corev1.Secret{Data: map[string][]byte{v1alpha1.KeyLayout: data}}
	if got := Published(secret).Layout; !reflect.DeepEqual(got, doc.Desired.Layout) || doc.MayPublish(switchover.Agents, Published(secret)) != nil {
		t.Errorf("read back as %+v", got)
	}
	if got := GrantsIn(secret); len(got) != 1 || got[0].Of != a.ID() || got[0].Credentials != now {
		t.Errorf("the layout has %d grants", len(got))
	}
	stored, err := doc.Encode()
	if err != nil {
		t.Fatal(err)
	}
	back, err := Decode(stored)
	if err != nil || back.With(a).Credentials != now || back.Target.Upstream != a || back.With(b) != b {
		t.Errorf("stored as %+v, %v", back.Target.Upstream, err)
	}
	if unmanaged := (switchover.Target{Mode: switchover.Unmanaged, Upstream: a}); back.Credentials(unmanaged) != now {
		t.Error("clients of the registry are not given the credentials of the moment")
	}
	if layout.NameOf(a) != layout.NameOf(back.With(a)) {
		t.Error("the name depends on it")
	}
}
