package state

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/control/switchover"
	"github.com/d8-registry/registry/internal/datapath/regauth"
	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/pki"
	"github.com/d8-registry/registry/internal/upstream"
)

func someDocument() Document {
	u := upstream.Upstream{Host: "r.io", Path: "d8", Scheme: upstream.HTTPS, Credentials: upstream.Credentials{Username: "u", Password: "SECRET"}}
	target := switchover.Target{Mode: switchover.Direct, Upstream: u}
	return Document{
		State: switchover.State{
			Schema: 1, Generation: 7, Active: target, Target: target, SpecHash: "abc",
			Desired: switchover.Desired{
				Layout: layout.Layout{Schema: 1, Generation: 7, Mode: "Direct", ActiveMode: "Direct", Active: u, Target: u, Routes: layout.Cross([]layout.Name{layout.Fixed()}, []upstream.Upstream{u})},
				Proxy:  true, Registry: target, Workloads: layout.Fixed(), Own: u,
			},
			Bases: []layout.Name{layout.Fixed(), layout.NameOf(u)},
			Conditions: []metav1.Condition{
				{Type: "RegistryContainsRequiredImages", Status: metav1.ConditionTrue, Reason: "Ready", Message: "r.io: all 157 items are checked", LastTransitionTime: metav1.NewTime(time.Date(2025, 7, 15, 12, 52, 46, 0, time.UTC))},
				{Type: "Ready", Status: metav1.ConditionTrue, LastTransitionTime: metav1.NewTime(time.Date(2025, 7, 15, 12, 55, 48, 0, time.UTC))},
			},
		},
		PKI:    Certificates{CA: pki.KeyPair{Cert: "c", Key: "SECRET"}},
		Users:  []User{{Credentials: upstream.Credentials{Username: UserClient, Password: "SECRET"}, Role: regauth.RoleClient}},
		Switch: 5,
	}
}

func TestTheUsersViewIsAsDocumented(t *testing.T) {
	t.Parallel()
	var secret corev1.Secret
	if err := fill(&secret, someDocument(), switchover.Observed{}); err != nil {
		t.Fatal(err)
	}
	want := `- lastTransitionTime: "2025-07-15T12:52:46Z"
  message: 'r.io: all 157 items are checked'
  reason: Ready
  status: "True"
  type: RegistryContainsRequiredImages
- lastTransitionTime: "2025-07-15T12:55:48Z"
  message: ""
  reason: ""
  status: "True"
  type: Ready
`
	if got := string(secret.Data[KeyConditions]); got != want {
		t.Errorf("conditions are\n%s\nwant\n%s", got, want)
	}
	if string(secret.Data[KeyMode]) != "Direct" || string(secret.Data[KeyTargetMode]) != "Direct" || len(secret.Data[KeyHash]) != 64 || len(secret.Data) != 5 {
		t.Errorf("keys are %v", secret.Data)
	}
	for key, data := range secret.Data {
		if key != KeyState && strings.Contains(string(data), "SECRET") {
			t.Errorf("key %s shows a secret", key)
		}
	}
	if secret.Annotations[v1alpha1.AnnotationConfigHash] != string(secret.Data[KeyHash]) || secret.Labels["type"] != "registry-state" {
		t.Errorf("labels %v, annotations %v", secret.Labels, secret.Annotations)
	}
}

func TestTheHashStandsStillWhileNodesReport(t *testing.T) {
	t.Parallel()
	doc := someDocument()
	w := switchover.Observed{Census: switchover.Census{Required: []string{":a"}}}
	before := specHash(doc, w)
	doc.Generation, doc.SafeGeneration, doc.Conditions = 9, 9, nil
	w.Nodes = []switchover.Node{{Name: "n"}}
	if specHash(doc, w) != before {
		t.Error("it follows what users did not ask for")
	}
	doc.HashKey = "another"
	if specHash(doc, w) == before {
		t.Error("somebody who knows the other settings can guess the password")
	}
	doc.HashKey = ""
	w.Census.Required = []string{":b"}
	if specHash(doc, w) == before {
		t.Error("it does not follow the required images")
	}
}

func TestTheDocumentComesBackWithWhatItDoesNotKnow(t *testing.T) {
	t.Parallel()
	data, err := someDocument().Encode()
	if err != nil {
		t.Fatal(err)
	}
	var raw map[string]any
	if err := yaml.Unmarshal(data, &raw); err != nil {
		t.Fatal(err)
	}
	raw["rotation"] = map[string]any{"since": "2027"}
	raw["desired"].(map[string]any)["cache"] = true
	if data, err = yaml.Marshal(raw); err != nil {
		t.Fatal(err)
	}
	doc, err := Decode(data)
	if err != nil {
		t.Fatal(err)
	}
	if doc.Generation != 7 || doc.Users[0].Password != "SECRET" || doc.PKI.CA.Key != "SECRET" || doc.Switch != 5 || doc.Desired.Layout.Target != someDocument().Active.Upstream {
		t.Errorf("read back %d, %v", doc.Generation, doc.Desired.Workloads)
	}
	doc.Desired.Proxy = false // a field that is now empty must go
	again, err := doc.Encode()
	if err != nil {
		t.Fatal(err)
	}
	var out map[string]any
	if err := yaml.Unmarshal(again, &out); err != nil {
		t.Fatal(err)
	}
	desired := out["desired"].(map[string]any)
	if out["rotation"] == nil || desired["cache"] != true || desired["proxy"] != nil {
		t.Errorf("written %v", desired)
	}
}

func TestAStateThatCannotBeReadTellsNothing(t *testing.T) {
	t.Parallel()
	for _, data := range []string{"", "SECRET: [", "{}", "schema: many\nSECRET: x", "- SECRET"} {
		if _, err := Decode([]byte(data)); err == nil || strings.Contains(err.Error(), "SECRET") {
			t.Errorf("%q: %v", data, err)
		}
	}
}

// TestAStateOfAnOlderVersionIsReadAndStaysTheSame: a controller that was
// upgraded goes on from it, and writes nothing for the sake of the upgrade.
func TestAStateOfAnOlderVersionIsReadAndStaysTheSame(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile(filepath.Join("testdata", "state-schema1.yaml")) // never rewritten
	if err != nil {
		t.Fatal(err)
	}
	doc, err := Decode(data)
	if err != nil {
		t.Fatal(err)
	}
	want := someDocument()
	if doc.Newer() || doc.Target != want.Target || !doc.Desired.Layout.SameContent(want.Desired.Layout) || doc.PKI != want.PKI || len(doc.Users) != 1 || !doc.Ready() {
		t.Errorf("it is read as %+v", doc)
	}
	again, err := doc.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(again, data) {
		t.Errorf("it would be stored again as\n%s", again)
	}
}

// TestWhatANewerVersionWroteStays: of a state that is not understood nothing but the
// conditions is written, which say so.
func TestWhatANewerVersionWroteStays(t *testing.T) {
	t.Parallel()
	const newer = "schema: 9\nroutes: [{caRef: x, more: y}]\nactive: {mode: Direct}\n"
	secret := &corev1.Secret{Data: map[string][]byte{KeyState: []byte(newer), KeyMode: []byte("Later"), KeyHash: []byte("abc")}}
	doc, err := Decode([]byte(newer))
	if err != nil || !doc.Newer() {
		t.Fatalf("%+v, %v", doc, err)
	}
	doc.Conditions = []metav1.Condition{{Type: "Ready", Status: metav1.ConditionFalse, Message: "a newer version"}}
	if err := fill(secret, doc, switchover.Observed{}); err != nil {
		t.Fatal(err)
	}
	if string(secret.Data[KeyState]) != newer || string(secret.Data[KeyMode]) != "Later" || string(secret.Data[KeyHash]) != "abc" {
		t.Errorf("written:\n%s", secret.Data[KeyState])
	}
	if !strings.Contains(string(secret.Data[KeyConditions]), "a newer version") {
		t.Errorf("conditions are %s", secret.Data[KeyConditions])
	}
}
