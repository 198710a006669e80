package hostile

import (
	"context"
	"encoding/pem"
	"fmt"
	"log/slog"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"unicode"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/dynamic"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/control/pullsecret"
	"github.com/d8-registry/registry/internal/control/settings"
	"github.com/d8-registry/registry/internal/control/state"
	"github.com/d8-registry/registry/internal/control/switchover"
	"github.com/d8-registry/registry/internal/datapath/judge"
	"github.com/d8-registry/registry/internal/foreign"
	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/node/report"
	"github.com/d8-registry/registry/test/harness/apiserver"
	"github.com/d8-registry/registry/test/harness/installation"
)

// nonsense is what somebody may put where a document of ours or of a registry is
// read: wrong types, megabytes, deep nesting, references that grow, other bytes.
func nonsense() map[string][]byte {
	deep := func(open, end string) []byte { return []byte(strings.Repeat(open, 1<<18) + strings.Repeat(end, 1<<18)) }
	bomb := "a: &a [x,x,x,x,x,x,x,x,x,x]\n"
	for c := 'b'; c < 'k'; c++ {
		bomb += fmt.Sprintf("%c: &%c [%s]\n", c, c, strings.TrimSuffix(strings.Repeat("*"+string(c-1)+",", 10), ","))
	}
	all := map[string][]byte{
		"empty": {}, "null": []byte("null"), "a number": []byte("7"), "a text": []byte(`"x"`), "a list": []byte(`[1,"x",{}]`),
		"a megabyte of text": []byte(`{"registry":"` + strings.Repeat("x", 1<<20) + `"}`), "escapes": []byte(escapes),
		"deep lists": deep("[", "]"), "deep objects": []byte(strings.Repeat(`{"a":`, 1<<18)), "a bomb of aliases": []byte(bomb),
		"bytes": {0, 0xff, 0xfe, 0x1b}, "a million keys": []byte("{" + strings.Repeat(`"a":1,`, 1<<18) + `"b":1}`),
	}
	for _, field := range []string{"registry", "mode", "state", "schema", "generation", "hosts", "auths", "desired", "manifests", "layers", "config", "errors", "conditions"} {
		for _, value := range []string{"7", `"x"`, "[]", "[[]]", "{}", `{"x":[7]}`, "null", "1e999", "-1"} {
			all[field+"="+value] = []byte(fmt.Sprintf("{%q:%s}", field, value))
		}
	}
	// What is quoted in messages.
	said := strings.Repeat(`\u001b[2J\u202e`, 1<<12)
	for what, form := range map[string]string{
		"error of a registry": `{"errors":[{"code":%q,"message":%q}]}`, "error of a proxy": `{"error":%[1]q}`, "address": `{"registry":{"mode":"Direct","direct":{"imagesRepo":%[1]q}}}`,
	} {
		all[what] = []byte(strings.ReplaceAll(fmt.Sprintf(form, said, said), `\\u`, `\u`))
	}
	return all
}

// Whoever may write a Secret, a ConfigMap or an answer of a registry stops no
// program by it: what cannot be read is a problem that is told in short.
func TestNonsenseIsNamed(t *testing.T) {
	t.Parallel()
	readers := map[string]func([]byte) string{
		"layout": func(data []byte) string { _, err := layout.Decode(data); return text(err) },
		"stored state": func(data []byte) string {
			_, err := state.Decode(data)
			return text(err)
		},
		"published layout": func(data []byte) string {
			return state.Published(&corev1.Secret{Data: map[string][]byte{v1alpha1.KeyLayout: data}}).Problem
		},
		"settings": func(data []byte) string { return settings.Parse(data).Problem },
		"pull secret": func(data []byte) string {
			_, err := pullsecret.CredentialsFor(data, "a.example/x")
			return text(err)
		},
		"registry Secret": func(data []byte) string {
			s := &corev1.Secret{Data: map[string][]byte{}}
			for _, key := range []string{"address", "path", "scheme", "ca", corev1.DockerConfigJsonKey} {
				s.Data[key] = data
			}
			_, problem := pullsecret.Installation(s)
			return problem
		},
		"manifest": func(data []byte) string {
			_, err := judge.Read(http.Header{"Content-Type": {judge.OCIManifest}}, data, "")
			return text(err)
		},
	}
	documents := nonsense()
	for name, read := range readers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for what, data := range documents {
				problem := read(data)
				if len(problem) > 4<<10 {
					t.Errorf("%s: %d bytes of problem: %.200q", what, len(problem), problem)
				}
				if strings.ContainsFunc(problem, func(r rune) bool { return !unicode.IsPrint(r) && r != '\n' }) {
					t.Errorf("%s: not printable: %.200q", what, problem)
				}
			}
		})
	}
	note(t, registryOwner, fmt.Sprintf("%d documents of nonsense as manifest", len(documents)), "an answer that is no image")
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// Five thousand nodes that all lie make no state that the API server refuses.
func TestStateOfFiveThousandLiars(t *testing.T) {
	t.Parallel()
	p := switchover.Standard()
	s, seen := switchover.State{}, switchover.Observed{Settings: switchover.DefaultSettings()}
	seen.Installation.Host, seen.Installation.Path, seen.Installation.Scheme = "a.example", "d8", "https"
	seen.Spec = switchover.Spec{Mode: switchover.Direct, Upstream: seen.Installation}
	for i := range 5000 {
		n := switchover.Node{Name: fmt.Sprintf("node-of-a-large-cluster-%05d", i), UID: fmt.Sprintf("%08d-0000-4000-8000-000000000000", i), BootID: "b", Ready: true, Agent: true, ControlPlane: i < 3}
		n.Report = switchover.Report{UID: n.UID, BootID: "b", Generation: int64(i % 3 * 1000), Version: escapes, Preflight: switchover.PreflightReady, Message: strings.Repeat(escapes, 100)}
		n.Report.Restart = switchover.Restart{ID: strings.Repeat("i", 64), Phase: []switchover.RestartPhase{switchover.RestartWaiting, switchover.RestartRunning, switchover.RestartFailed}[i%3], Message: n.Report.Message}
		seen.Nodes = append(seen.Nodes, n)
	}
	for range 20 { // the first ten begin anew, for liars
		request := p.CheckRequest(s, seen)
		seen.Check = switchover.CheckReport{Fingerprint: request.Fingerprint(), Total: 1, Done: 1, At: seen.Now.AddDate(1, 0, 0)}
		s = p.Advance(s, seen)
	}
	if n := len(s.Desired.Restarts); n == 0 || n > seen.Settings.RestartsAtOnce || len(s.Conditions) == 0 {
		t.Fatalf("%d restarts, %d conditions: the liars had no say, or too much", n, len(s.Conditions))
	}
	data, err := state.Document{State: s}.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if len(data) > 1<<20 {
		t.Errorf("the state has %d bytes, a Secret holds %d", len(data), 1<<20)
	}
	note(t, nodeOwner, "lie on all of 5,000 nodes", fmt.Sprintf("a state of %d KiB; a Secret holds 1024", len(data)>>10))
}

// The largest report of an agent is taken by the API server.
func TestTheLargestReportIsTaken(t *testing.T) {
	t.Parallel()
	c := newCluster(t, "master")
	c.Make(&v1alpha1.RegistryNode{ObjectMeta: metav1.ObjectMeta{Name: "master"}})
	kube, err := dynamic.NewForConfig(c.api.As(t, apiserver.Process{ServiceAccount: "registry-agent", Node: "master"}))
	if err != nil {
		t.Fatal(err)
	}
	var said strings.Builder
	log := foreign.NewLog(&said, slog.LevelWarn)
	reporter := report.New(report.Options{Kube: kube, Node: "master", Log: log})
	installation.Background(c.t, func(ctx context.Context) error { reporter.Follow(ctx, func() {}); return nil })
	for reporter.Latest() == nil {
		if installation.Pause(20e6); t.Context().Err() != nil {
			t.Fatal("the agent never sees its RegistryNode")
		}
	}
	r := reporter.Begin()
	fillUp(reflect.ValueOf(&r.Status).Elem(), 0)
	r.Status.Preflight, r.Status.Restart.Phase = "Ready", v1alpha1.RestartWaiting
	r.Status.Store.State = v1alpha1.StoreFailing
	r.Status.Store.Request = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: make([]byte, 5000)}))
	for i := range r.Status.Scripts {
		r.Status.Scripts[i].Phase = v1alpha1.ScriptFailed
	}
	if reporter.Finish(t.Context(), r); r.Retry {
		t.Fatalf("the report was refused: %s", said.String())
	}
	var got v1alpha1.RegistryNode
	if err := c.Get(t.Context(), client.ObjectKey{Name: "master"}, &got); err != nil {
		t.Fatal(err)
	}
	if got.Status.Store == nil || len(got.Status.Store.Request) < 5000 {
		t.Error("the request for a certificate is lost")
	}
	if equality.Semantic.DeepEqual(got.Status, v1alpha1.RegistryNodeStatus{}) || len(got.Status.Scripts) < 100 {
		t.Errorf("%d scripts were reported", len(got.Status.Scripts))
	}
	note(t, registryOwner, "megabytes in what a node's agent reports", "each text is cut before it is written, and the report arrives")
}

// fillUp puts a long hostile text into every string, another one each time, and too
// many items into every list.
func fillUp(v reflect.Value, n int) {
	switch v.Kind() {
	case reflect.String:
		v.SetString(fmt.Sprint(n) + strings.Repeat(escapes, 300))
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fillUp(v.Elem(), n)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1200, 1200))
		for i := range v.Len() {
			fillUp(v.Index(i), i)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			fillUp(v.Field(i), n)
		}
	default:
	}
}
