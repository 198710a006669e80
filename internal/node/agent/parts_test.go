package agent

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	registryv1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/node/containerd"
	"github.com/d8-registry/registry/internal/node/handoff"
	"github.com/d8-registry/registry/internal/upstream"
)

// redirected is a containerd and a serving half in one: pulls of the names in
// it arrive and hang, all others end in an error.
type redirected struct {
	names   []layout.Name
	pulls   []string
	removed []string
	peer    string // where pulls come from
	has     bool   // everything can be pulled, from somewhere
	pending map[string]layout.Name
	arrived chan string
}

func (r *redirected) Expect(_ context.Context, nonce string, name layout.Name) error {
	r.pending[nonce] = name
	return nil
}

func (r *redirected) Seen(ctx context.Context, nonce string, wait time.Duration) (handoff.Arrival, error) {
	select {
	case got := <-r.arrived:
		return handoff.Arrival{Seen: got == nonce, Peer: r.peer}, nil
	default:
	}
	select {
	case got := <-r.arrived:
		return handoff.Arrival{Seen: got == nonce, Peer: r.peer}, nil
	case <-time.After(wait):
		return handoff.Arrival{}, nil
	case <-ctx.Done():
		return handoff.Arrival{}, ctx.Err()
	}
}

func (r *redirected) PullImage(ctx context.Context, ref string) (string, error) {
	r.pulls = append(r.pulls, ref)
	nonce := ref[strings.LastIndex(ref, ":")+1:]
	if slices.Contains(r.names, r.pending[nonce]) {
		r.arrived <- nonce
		<-ctx.Done()
		return "", ctx.Err()
	}
	if r.has {
		return "id", nil
	}
	return "", errors.New("not found")
}

func (r *redirected) RemoveImage(_ context.Context, ref string) error {
	r.removed = append(r.removed, ref)
	return nil
}

func anybody(string) error { return nil }

func TestProve(t *testing.T) {
	t.Parallel()
	fixed, other := layout.Fixed(), layout.Name{Host: "a.example.com"}
	node := &redirected{names: []layout.Name{fixed}, pending: map[string]layout.Name{}, arrived: make(chan string, 1)}
	p := newProofs(node, 5*time.Minute)
	now := time.Now()
	p.now = func() time.Time { return now }
	prove := func(n layout.Name, key string, good bool, pulls int) {
		t.Helper()
		before := len(node.pulls)
		instance, content, _ := strings.Cut(key, ", ")
		err := p.prove(t.Context(), node, n, asked{instance, anybody}, content, nonce("uid", 7))
		if (err == nil) != good || err != nil && !errors.Is(err, errNotSeen) || len(node.pulls)-before != pulls {
			t.Errorf("%s: %v after %d pulls, want good %t after %d", n, err, len(node.pulls)-before, good, pulls)
		}
	}
	prove(fixed, "run 1, content 1", true, 1)
	prove(fixed, "run 1, content 1", true, 0)
	prove(fixed, "run 1, content 2", true, 1)
	prove(fixed, "run 2, content 2", true, 1)
	now = now.Add(5 * time.Minute)
	prove(fixed, "run 2, content 2", true, 1)
	prove(other, "run 2, content 2", false, 1)
	prove(other, "run 2, content 2", false, 1)
	node.names = nil
	prove(fixed, "run 2, content 2", true, 0)
	now = now.Add(5 * time.Minute)
	prove(fixed, "run 2, content 2", false, 1)
	node.has = true
	prove(fixed, "run 2, content 2", false, 1)
	if len(node.removed) != 1 || node.removed[0] != node.pulls[len(node.pulls)-1] {
		t.Errorf("somebody's image stays: %q", node.removed)
	}
	if !strings.HasPrefix(node.pulls[0], "registry.d8-system.svc:5001/system/deckhouse/registry-proof:uid.7.") {
		t.Errorf("reference %s", node.pulls[0])
	}
	if node.pulls[0] == node.pulls[1] {
		t.Error("the same nonce twice")
	}
}

func TestReach(t *testing.T) {
	t.Parallel()
	target := upstream.Upstream{Host: "b.example.com", Scheme: upstream.HTTPS}
	old := upstream.Upstream{Host: "a.example.com", Scheme: upstream.HTTPS}
	l := layout.Layout{Target: target, Routes: []layout.Route{{Name: layout.Fixed(), Upstreams: []upstream.Upstream{target, old}}}}
	now := time.Now()
	asked := make(chan string, 10)
	dead := map[string]bool{"a.example.com": true}
	r := newReach(5*time.Minute, 0)
	r.now = func() time.Time { return now }
	r.ping = func(_ context.Context, u upstream.Upstream) error {
		asked <- u.Host
		if dead[u.Host] {
			return errors.New("dead")
		}
		return nil
	}
	ask := func(want ...string) []answer {
		t.Helper()
		answers := r.ask(t.Context(), l)
		var got []string
		for len(asked) > 0 {
			got = append(got, <-asked)
		}
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("asked %q, want %q", got, want)
		}
		return answers
	}
	answers := ask("a.example.com", "b.example.com")
	if len(answers) != 2 || answers[0].err == nil || answers[0].target || answers[1].err != nil || !answers[1].target {
		t.Errorf("%+v", answers)
	}
	ask()
	rotated := target
	rotated.Credentials = upstream.Credentials{Username: "u", Password: "p"}
	l.Target = rotated
	ask() // reachability is not about credentials
	now = now.Add(deadAgain)
	ask("a.example.com")
	now = now.Add(4 * time.Minute)
	ask("a.example.com", "b.example.com")
	dead["b.example.com"] = true
	now = now.Add(5 * time.Minute)
	ask("a.example.com", "b.example.com")
	ask("b.example.com")
	l.Routes[0].Upstreams = []upstream.Upstream{target}
	if answers := ask("b.example.com"); len(answers) != 1 {
		t.Errorf("a registry that left the layout: %+v", answers)
	}
}

func agentAt(now *time.Time) *Agent {
	return &Agent{
		cfg: Config{BootID: "boot", ProofInterval: 5 * time.Minute}, log: slog.New(slog.DiscardHandler),
		now: func() time.Time { return *now }, since: map[string]time.Time{},
		report: newReporter(nil, "n", slog.New(slog.DiscardHandler)), files: &watcher{},
	}
}

// TestSilentServe: a restart is waited for, a dead half is reported and takes
// the report back.
func TestSilentServe(t *testing.T) {
	t.Parallel()
	now := time.Now()
	a := agentAt(&now)
	a.standing = standing{generation: 5}
	v := &view{}
	if a.lookAtServe(v); !v.hold || !v.retry || a.standing.generation != 5 {
		t.Errorf("at once: %+v, %+v", v, a.standing)
	}
	now = now.Add(patience)
	v = &view{}
	if a.lookAtServe(v); v.hold || len(v.problems) != 1 || a.standing.generation != 0 {
		t.Errorf("after a while: %+v, %+v", v, a.standing)
	}
}

// TestServeLostItsDisk: nobody may rely on a generation that is not served.
func TestServeLostItsDisk(t *testing.T) {
	t.Parallel()
	folder, err := handoff.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for generation, want := range map[int64]int64{0: 0, 4: 0, 5: 5, 6: 5} {
		now := time.Now()
		a := agentAt(&now)
		a.folder = folder
		a.standing = standing{generation: 5}
		a.serving.Store(&served{status: handoff.Status{Generation: generation}})
		a.lookAtServe(&view{})
		if a.standing.generation != want {
			t.Errorf("serving %d: %d stands, want %d", generation, a.standing.generation, want)
		}
	}
}

func TestNextPass(t *testing.T) {
	t.Parallel()
	now := time.Now()
	a := agentAt(&now)
	failing, fine := &view{retry: true}, &view{}
	if d := a.next(failing); d != soon {
		t.Errorf("first: %s", d)
	}
	now = now.Add(20 * time.Second)
	if d := a.next(failing); d != 10*time.Second {
		t.Errorf("after 20 s: %s", d)
	}
	now = now.Add(time.Hour)
	if d := a.next(failing); d != later {
		t.Errorf("after an hour: %s", d)
	}
	if d := a.next(fine); d != 150*time.Second {
		t.Errorf("fine: %s", d)
	}
	if d := a.next(failing); d != soon {
		t.Errorf("again: %s", d)
	}
	if d := a.next(&view{problems: []string{"x"}}); d != later {
		t.Errorf("something to say: %s", d)
	}
}

func TestAdopt(t *testing.T) {
	t.Parallel()
	report := func(boot, uid string) *registryv1alpha1.RegistryNode {
		return &registryv1alpha1.RegistryNode{
			ObjectMeta: metav1.ObjectMeta{OwnerReferences: []metav1.OwnerReference{{Kind: "Node", UID: "uid"}}},
			Status: registryv1alpha1.RegistryNodeStatus{
				Generation: 5, Version: "v", BootID: boot, NodeUID: uid,
				Redirects: []registryv1alpha1.RedirectStatus{{Name: "a", Proved: true}, {Name: "b"}},
			},
		}
	}
	for name, row := range map[string]struct {
		own  *registryv1alpha1.RegistryNode
		have int64
		want int64
	}{
		"an earlier agent":  {report("boot", "uid"), 0, 5},
		"another boot":      {report("other", "uid"), 0, 0},
		"another node":      {report("boot", "other"), 0, 0},
		"no object":         {nil, 0, 0},
		"proved since then": {report("boot", "uid"), 7, 7},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			now := time.Now()
			a := agentAt(&now)
			a.standing.generation = row.have
			a.adopt(row.own)
			if a.standing.generation != row.want {
				t.Errorf("generation %d, want %d", a.standing.generation, row.want)
			}
			if row.want == 5 && !slices.Equal(a.standing.names, []string{"a"}) {
				t.Errorf("names %q", a.standing.names)
			}
		})
	}
}

// TestReporterKnowsOldNews: what comes through the watch may be older than our
// own write.
func TestReporterKnowsOldNews(t *testing.T) {
	t.Parallel()
	r := newReporter(nil, "n", slog.New(slog.DiscardHandler))
	object := func(uid, version string) *unstructured.Unstructured {
		o := &unstructured.Unstructured{Object: map[string]any{}}
		o.SetUID("uid-1")
		if uid != "" {
			o.SetUID("uid-2")
		}
		o.SetResourceVersion(version)
		return o
	}
	for i, step := range []struct {
		o    *unstructured.Unstructured
		want bool
	}{{nil, false}, {object("", "10"), true}, {object("", "9"), false}, {object("", "11"), true}, {object("new", "5"), true}, {nil, true}, {nil, false}} {
		if got := r.learn(step.o); got != step.want {
			t.Errorf("step %d: news %t, want %t", i, got, step.want)
		}
	}
}

func TestKnownGoesStale(t *testing.T) {
	t.Parallel()
	now := time.Now()
	var none *known
	if !none.stale(now, time.Hour) {
		t.Error("nothing known is stale")
	}
	k := &known{facts: containerd.Facts{Preflight: containerd.Ready}, at: now}
	if k.stale(now.Add(time.Minute), time.Hour) || !k.stale(now.Add(time.Hour), time.Hour) {
		t.Error("good configuration: at the interval")
	}
	k.facts.Preflight = containerd.Custom
	if k.stale(now.Add(time.Second), time.Hour) || !k.stale(now.Add(later), time.Hour) {
		t.Error("bad configuration: somebody may be repairing it")
	}
}
