package nodescript

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/dynamic"
	"sigs.k8s.io/controller-runtime/pkg/client"

	deckhousev1alpha1 "github.com/d8-registry/registry/api/deckhouse/v1alpha1"
	registryv1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/test/harness/apiserver"
)

// lines is a log that can be searched.
type lines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// agent is a Runner with an agent's rights on a real API server.
type agent struct {
	*Runner
	t    *testing.T
	api  *apiserver.API
	log  *lines
	stop func()
}

// startAgent starts one on a host of its own: all share an API server with the
// documentation's object, which is for every node and must not run here.
func startAgent(t *testing.T, name string, cfg Config) *agent {
	t.Helper()
	if cfg.Host.PID == 0 {
		cfg.Host, _ = otherHost(t)
	}
	api := server.Start(t)
	kube, err := dynamic.NewForConfig(api.As(t, apiserver.Process{ServiceAccount: "registry-agent", Node: name}))
	if err != nil {
		t.Fatal(err)
	}
	cfg.Client, cfg.NodeName, cfg.BootID, cfg.Retry = kube, name, "boot", 100*time.Millisecond
	log := &lines{}
	r, err := New(cfg, slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug})))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	a := &agent{Runner: r, t: t, api: api, log: log}
	a.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("runner: %v", err)
		}
	})
	t.Cleanup(a.stop)
	return a
}

// apply makes or changes a NodeGroupConfiguration for the agent's own group.
func (a *agent) apply(name, content string) {
	a.t.Helper()
	ctx := context.WithoutCancel(a.t.Context())
	ngc := &deckhousev1alpha1.NodeGroupConfiguration{ObjectMeta: metav1.ObjectMeta{Name: name}}
	err := a.api.Client().Get(ctx, client.ObjectKeyFromObject(ngc), ngc)
	ngc.Spec = deckhousev1alpha1.NodeGroupConfigurationSpec{Content: content, NodeGroups: []string{a.cfg.NodeName}, Bundles: []string{"*"}, Weight: 100}
	if err == nil {
		err = a.api.Client().Update(ctx, ngc)
	} else if apierrors.IsNotFound(err) {
		err = a.api.Client().Create(ctx, ngc)
		a.t.Cleanup(func() { _ = a.api.Client().Delete(ctx, ngc) })
	}
	if err != nil {
		a.t.Fatal(err)
	}
}

// until waits for the status of one script.
func (a *agent) until(name, phase string) registryv1alpha1.ScriptStatus {
	a.t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for {
		scripts, _ := a.Status()
		at := slices.IndexFunc(scripts, func(s registryv1alpha1.ScriptStatus) bool { return s.Name == name && s.Phase == phase })
		if at >= 0 {
			return scripts[at]
		}
		if time.Now().After(deadline) {
			a.t.Fatalf("%s is not %s: %v\n%s", name, phase, scripts, a.log)
		}
		timer := time.NewTimer(10 * time.Millisecond)
		<-timer.C
	}
}

func (a *agent) events() []corev1.Event {
	a.t.Helper()
	var list corev1.EventList
	about := client.MatchingFieldsSelector{Selector: fields.Set{"involvedObject.kind": "Node", "involvedObject.name": a.cfg.NodeName}.AsSelector()}
	if err := a.api.Client().List(a.t.Context(), &list, about); err != nil {
		a.t.Fatal(err)
	}
	return list.Items
}

// The documentation's object, as users apply it, by an agent with an agent's
// rights on a host that it sees from a container. Not in parallel: it is for
// every node, and any change makes all scripts run again.
func TestSeedByTheAgent(t *testing.T) {
	host, etc := otherHost(t)
	a := startAgent(t, "seed", Config{Host: host})
	a.Learn(Node{Group: "seed"})
	if err := a.api.Apply(t.Context(), theSeed(t)); err != nil {
		t.Fatal(err)
	}
	a.until("custom-registry", registryv1alpha1.ScriptDone)
	if got := readFile(t, filepath.Join(etc, "containerd/registry.d/registry.io/hosts.toml")); got != seedFile {
		t.Errorf("the file is\n%s", got)
	}
	// Deleting it undoes nothing.
	if err := a.api.Client().Delete(t.Context(), theSeed(t)); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(30 * time.Second)
	for scripts, _ := a.Status(); len(scripts) > 0; scripts, _ = a.Status() {
		if time.Now().After(deadline) {
			t.Fatalf("it is still there: %v", scripts)
		}
		timer := time.NewTimer(10 * time.Millisecond)
		<-timer.C
	}
	if got := readFile(t, filepath.Join(etc, "containerd/registry.d/registry.io/hosts.toml")); got != seedFile {
		t.Errorf("afterwards the file is\n%s", got)
	}
}

func TestFailureIsToldOnTheNode(t *testing.T) {
	t.Parallel()
	a := startAgent(t, "failing", Config{StateDir: filepath.Join(t.TempDir(), "scripts")})
	a.Learn(Node{Group: "failing", UID: "the-uid"})
	content := "n=$(cat DIR/n 2>/dev/null || echo 0); echo $((n + 1)) > DIR/n\nprintf 'e%.0s' {1..600} >&2; echo \" password=verysecret $n\" >&2; test -e DIR/good"
	content = strings.ReplaceAll(content, "DIR", t.TempDir())
	dir := filepath.Dir(strings.Fields(content)[1])
	a.apply("failing-script", content)
	status := a.until("failing-script", registryv1alpha1.ScriptFailed)
	eventually(t, "an Event that counts to 3", func() bool {
		events := a.events()
		return len(events) == 1 && events[0].Count == failuresOneByOne
	})
	eventually(t, "many tries", func() bool { return len(readFile(t, dir+"/n")) > 2 })
	events := a.events()
	if len(events) != 1 {
		t.Fatalf("%d Events: %v", len(events), events)
	}
	e := events[0]
	note, tail, _ := strings.Cut(e.Message, "\n")
	if e.Reason != "BashibleStepFailed" || e.Type != corev1.EventTypeWarning || e.Namespace != "default" || e.InvolvedObject.UID != "the-uid" ||
		e.Related.Name != "failing-script" || e.Source.Component != "registry-agent" || e.Count != failuresOneByOne {
		t.Errorf("the Event is %+v", e)
	}
	if !strings.HasPrefix(note, "NodeGroupConfiguration failing-script: exit status 1; what it printed is in /") {
		t.Errorf("it says %q", note)
	}
	if len(tail) > stderrTail || len(tail) < stderrTail-2 || !strings.HasSuffix(tail, "e password=verysecret 2\nline 2: exit status 1") {
		t.Errorf("it ends with %d bytes: %q", len(tail), tail)
	}
	if strings.Contains(status.Message, "secret") || strings.Contains(a.log.String(), "verysecret") {
		t.Errorf("what it printed is in the status %q or in the log\n%s", status.Message, a.log)
	}
	writeFile(t, dir+"/good", "", 0o600)
	if got := a.until("failing-script", registryv1alpha1.ScriptDone); got.Message != "" || got.Generation != 1 {
		t.Errorf("at last: %+v", got)
	}
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within 30 s", what)
		}
		timer := time.NewTimer(20 * time.Millisecond)
		<-timer.C
	}
}

// A new Event is made when the old one was forgotten by the API server, and
// the time between two is kept.
func TestEventsAreBounded(t *testing.T) {
	t.Parallel()
	api := server.Start(t)
	kube, err := dynamic.NewForConfig(api.As(t, apiserver.Process{ServiceAccount: "registry-agent", Node: "bounded"}))
	if err != nil {
		t.Fatal(err)
	}
	e := newEvents(kube, "bounded", quiet())
	a := &agent{t: t, api: api, Runner: &Runner{cfg: Config{NodeName: "bounded"}}}
	s, o := script100("a", ""), outcome{failure: "exit status 1"}
	for range 50 {
		e.failed(t.Context(), Node{}, s, o)
	}
	events := a.events()
	if len(events) != 1 || events[0].Count != failuresOneByOne || events[0].Message != "NodeGroupConfiguration a: exit status 1; nothing on standard error" {
		t.Fatalf("after 50 failures: %v", events)
	}
	e.sent["a"].lastSent = time.Now().Add(-eventInterval)
	e.failed(t.Context(), Node{}, s, o)
	if events = a.events(); len(events) != 1 || events[0].Count != 51 {
		t.Fatalf("after some minutes: %v", events)
	}
	if err := api.Client().Delete(t.Context(), &events[0]); err != nil {
		t.Fatal(err)
	}
	e.sent["a"].lastSent = time.Now().Add(-eventInterval)
	e.failed(t.Context(), Node{}, s, o)
	e.failed(t.Context(), Node{}, script100("b", ""), o)
	if events = a.events(); len(events) != 2 || events[0].Count+events[1].Count != 53 {
		t.Fatalf("after it was forgotten, and another script: %v", events)
	}
	e.succeeded(s)
	e.failed(t.Context(), Node{}, s, o)
	if events = a.events(); len(events) != 3 {
		t.Fatalf("after a success: %v", events)
	}
}

// An agent tells about its own node only, whatever its node's owner makes of
// its token.
func TestEventsOfAnotherNode(t *testing.T) {
	t.Parallel()
	api := server.Start(t)
	kube, err := dynamic.NewForConfig(api.As(t, apiserver.Process{ServiceAccount: "registry-agent", Node: "mine"}))
	if err != nil {
		t.Fatal(err)
	}
	s, o := script100("a", ""), outcome{failure: "exit status 1"}
	other := newEvents(kube, "theirs", quiet())
	if err := other.send(t.Context(), Node{}, s, o, &sentEvent{count: 1}); !apierrors.IsInvalid(err) && !apierrors.IsForbidden(err) {
		t.Errorf("an Event about another Node: %v", err)
	}
	event := &corev1.Event{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "theirs"}, Reason: "Other",
		InvolvedObject: corev1.ObjectReference{Kind: "Node", Name: "theirs"}}
	if err := api.Client().Create(t.Context(), event); err != nil {
		t.Fatal(err)
	}
	err = newEvents(kube, "mine", quiet()).send(t.Context(), Node{}, s, o, &sentEvent{name: event.Name, count: 1})
	if !apierrors.IsInvalid(err) && !apierrors.IsForbidden(err) {
		t.Errorf("a change of another's Event: %v", err)
	}
}

func TestAgentThatWasKilled(t *testing.T) {
	t.Parallel()
	dir, state := t.TempDir(), filepath.Join(t.TempDir(), "scripts")
	a := startAgent(t, "killed", Config{StateDir: state})
	a.apply("a-first", "echo first >> "+dir+"/ran")
	a.apply("b-long", fmt.Sprintf("echo second >> %[1]s/ran; test -e %[1]s/good || sleep 1000", dir))
	eventually(t, "both are known", func() bool {
		a.mu.Lock()
		defer a.mu.Unlock()
		return slices.ContainsFunc(a.scripts, func(s script) bool { return s.name == "b-long" })
	})
	a.Learn(Node{Group: "killed"})
	a.until("b-long", registryv1alpha1.ScriptRunning)
	// As if it had not been able to end its script.
	left := newBash(t)
	ctx, crash := context.WithCancel(t.Context())
	defer crash()
	go left.run(ctx, script100("left", "sleep 1000"), false)
	eventually(t, "a script of an earlier agent", func() bool { _, ok := left.folder.interrupted(); return ok })
	a.stop()
	old, _ := left.folder.interrupted()
	if err := os.Rename(filepath.Join(left.folder.path, runningFile), filepath.Join(state, runningFile)); err != nil {
		t.Fatal(err)
	}
	writeFile(t, dir+"/good", "", 0o600)
	b := startAgent(t, "killed", Config{StateDir: state})
	if old.BootID != "boot" {
		t.Fatalf("record %+v", old)
	}
	b.Learn(Node{Group: "killed"})
	b.until("b-long", registryv1alpha1.ScriptDone)
	if old.alive() {
		t.Error("what the earlier agent left still runs")
	}
	if got := readFile(t, dir+"/ran"); got != "first\nsecond\nfirst\nsecond\n" {
		t.Errorf("ran\n%s", got)
	}
	b.stop()
	c := startAgent(t, "killed", Config{StateDir: state})
	c.Learn(Node{Group: "killed"})
	c.until("b-long", registryv1alpha1.ScriptDone)
	if got := readFile(t, dir+"/ran"); strings.Count(got, "\n") != 4 {
		t.Errorf("what was done ran again:\n%s", got)
	}
}

// Two agents on a node, as when a pod was replaced by force: one waits.
func TestTwoAgents(t *testing.T) {
	t.Parallel()
	b := newBash(t)
	unlock, err := b.folder.lock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	second := bashOn(t, b.host, b.folder.path)
	soon, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	give, err := second.folder.lock(soon)
	give()
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("two at once: %v", err)
	}
	unlock()
	give, err = second.folder.lock(t.Context())
	give()
	if err != nil {
		t.Error(err)
	}
}

func TestConfig(t *testing.T) {
	t.Parallel()
	for _, cfg := range []Config{
		{NodeName: "a"}, {BootID: "a"}, {NodeName: "a", BootID: "b", StateDir: "relative"}, {NodeName: "a", BootID: "b", StateDir: "/with space"},
		{NodeName: "a", BootID: "b", StateDir: "/a/../b"}, {NodeName: "a", BootID: "b", StateDir: "/a/$x"},
	} {
		if _, err := New(cfg, quiet()); err == nil {
			t.Errorf("%+v is taken", cfg)
		}
	}
	r, err := New(Config{NodeName: "a", BootID: "b"}, quiet())
	if err != nil || r.cfg.Retry != DefaultRetry || r.cfg.Again != DefaultAgain || r.cfg.Timeout != DefaultTimeout || r.cfg.StateDir != DefaultStateDir {
		t.Errorf("defaults: %+v %v", r.cfg, err)
	}
	host, err := FindHost()
	if errors.Is(err, fs.ErrPermission) {
		t.Skip("nobody may look at process 1 here")
	}
	if err != nil || host.Root == "" {
		t.Errorf("host %+v %v", host, err)
	}
}
