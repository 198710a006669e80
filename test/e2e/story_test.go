package e2e

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/d8-registry/registry/test/harness/kube"
	"github.com/d8-registry/registry/test/harness/machine"
)

// TestFilledSettings: what the story applies is the documents' YAML with these
// values, and no other.
func TestFilledSettings(t *testing.T) {
	t.Parallel()
	example := blocksByLine(t, docManage)[102]
	const ca = "-----BEGIN CERTIFICATE-----\nAAAA\nBBBB\n-----END CERTIFICATE-----\n"
	a := &machine.Registry{RegistryOptions: kube.RegistryA(), CA: ca}
	b := &machine.Registry{RegistryOptions: kube.RegistryB(), CA: ca}
	for _, c := range []struct {
		fill []filled
		want map[string]any
	}{
		{settingsA(a), map[string]any{"imagesRepo": a.Base(), "scheme": "HTTPS", "ca": ca, "license": a.Users["license-token"]}},
		{settingsB(b), map[string]any{"imagesRepo": b.Base(), "scheme": "HTTPS", "ca": ca, "username": "mirror-puller", "password": "of-the-mirror"}},
	} {
		text, err := example.fill(c.fill)
		if err != nil {
			t.Fatal(err)
		}
		var object struct {
			Spec struct {
				Settings struct {
					Registry struct {
						Mode   string
						Direct map[string]any
					}
				}
			}
		}
		if err := yaml.Unmarshal([]byte(text), &object); err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		if got := object.Spec.Settings.Registry; got.Mode != "Direct" || !reflect.DeepEqual(got.Direct, c.want) {
			t.Errorf("got %v, want %v", got, c.want)
		}
	}
	if _, err := example.fill([]filled{{"<NOT THERE>", ""}}); err == nil {
		t.Error("a placeholder that is not there is filled")
	}
}

func TestPullCommands(t *testing.T) {
	t.Parallel()
	s := &story{documents: map[string]block{}, used: map[string]map[string]bool{}}
	for _, b := range allBlocks(t) {
		s.documents[b.String()] = b
	}
	want := []string{
		"ctr -n k8s.io images pull --hosts-dir=/etc/containerd/registry.d/ registry.io/registry/path:tag",
		"ctr -n k8s.io images pull --hosts-dir=/etc/containerd/registry.d/ --plain-http registry.io/registry/path:tag",
	}
	if got := s.pullCommands(); !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	if hosts := s.documentedHosts(); !strings.Contains(hosts, `ca = ["`+caFile+`"]`) || strings.Contains(hosts, "/path/to") {
		t.Error(hosts)
	}
}

func TestWithoutBlock(t *testing.T) {
	t.Parallel()
	const users = "[host]\n  [host.\"https://a\"]\n    x = 1\n"
	withBlock := "[host]\n# registry-agent: begin\n  [host.\"https://127.0.0.1:5001\"]\n# registry-agent: end\n  [host.\"https://a\"]\n    x = 1\n"
	if got := withoutBlock(withBlock); got != users {
		t.Errorf("%q", got)
	}
	if got := withoutBlock(users); got != users {
		t.Errorf("%q", got)
	}
}

func TestDifferences(t *testing.T) {
	t.Parallel()
	before := map[string]string{"/etc/a": "1", "/etc/b": "1"}
	if err := differences(before, map[string]string{"/etc/a": "1", "/etc/b": "1"}); err != nil {
		t.Error(err)
	}
	for _, now := range []map[string]string{{"/etc/a": "1"}, {"/etc/a": "1", "/etc/b": "2"}, {"/etc/a": "1", "/etc/b": "1", "/etc/c": "1"}} {
		if differences(before, now) == nil {
			t.Errorf("%v is no difference", now)
		}
	}
}

func TestSamePods(t *testing.T) {
	t.Parallel()
	before := map[string]podFact{
		"d8-platform/web-1":                      {uid: "1", started: "x"},
		"d8-system/registry-agent-1":             {uid: "2", started: "x"},
		"d8-system/deckhouse-1":                  {uid: "3"},
		"d8-platform/report-1":                   {uid: "4", owner: "Job report-1"},
		"d8-system/registry-incluster-proxy-abc": {uid: "5"},
	}
	if err := samePods(before, map[string]podFact{"d8-platform/web-1": {uid: "1", started: "x"}, "d8-system/registry-agent-1": {uid: "2", started: "x"}}); err != nil {
		t.Error(err)
	}
	for _, now := range []map[string]podFact{
		{"d8-platform/web-1": {uid: "1", started: "x"}},
		{"d8-platform/web-1": {uid: "1", started: "y"}, "d8-system/registry-agent-1": {uid: "2", started: "x"}},
		{"d8-platform/web-1": {uid: "1", started: "x", restarts: 1}, "d8-system/registry-agent-1": {uid: "2", started: "x"}},
		{"d8-platform/web-1": {uid: "9", started: "x"}, "d8-system/registry-agent-1": {uid: "2", started: "x"}},
	} {
		if samePods(before, now) == nil {
			t.Errorf("nothing was restarted in %v", now)
		}
	}
	if counted(before) != 2 {
		t.Errorf("%d pods are compared", counted(before))
	}
}

func TestPullsOfANode(t *testing.T) {
	t.Parallel()
	p := &pulls{recorder: machine.NewRecorder(phaseToB)}
	failed := &net404{}
	for _, pull := range []machine.Pull{
		{Node: "w1", Name: "a"}, {Node: "w1", Name: "b"}, {Node: "w2", Name: "a"},
		{Node: "w1", Name: "a", Err: failed},
		{Node: "w1", Name: "a", Err: failed, Void: true},
		{Node: "w1", Name: "a", Err: failed, Interrupted: true},
	} {
		p.recorder.Add(pull)
		pull.Phase = phaseToDirect
		p.recorder.Add(pull)
	}
	if r, bad := p.row(phaseToB, "w1"); r.done != 2 || r.failed != 2 || len(bad) != 2 || r.cut != 0 || !slices.Equal(r.names, []string{"a", "b"}) {
		t.Errorf("%+v, %q", r, bad)
	}
	// A restart of containerd is asked for in this phase.
	if r, bad := p.row(phaseToDirect, "w1"); r.done != 2 || r.failed != 1 || len(bad) != 1 || r.cut != 1 {
		t.Errorf("%+v, %q", r, bad)
	}
}

type net404 struct{}

func (*net404) Error() string { return "404" }
