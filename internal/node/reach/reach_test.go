package reach

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	registryv1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/node/report"
	"github.com/d8-registry/registry/internal/upstream"
	"github.com/d8-registry/registry/test/harness/testregistry"
)

func TestReach(t *testing.T) {
	t.Parallel()
	target := upstream.Upstream{Host: "b.example.com", Scheme: upstream.HTTPS}
	old := upstream.Upstream{Host: "a.example.com", Scheme: upstream.HTTPS}
	l := layout.Layout{Target: target, Routes: []layout.Route{{Name: layout.Fixed(), Upstreams: []upstream.Upstream{target, old}}}}
	now := time.Now()
	asked := make(chan string, 10)
	dead := map[string]bool{"a.example.com": true}
	r := New("node", 5*time.Minute, 0)
	r.now = func() time.Time { return now }
	r.ping = func(_ context.Context, u upstream.Upstream) error {
		asked <- u.Host
		if dead[u.Host] {
			return errors.New("dead")
		}
		return nil
	}
	r.prove = func(ctx context.Context, l layout.Layout) error { return r.ping(ctx, l.Target) }
	r.again = r.prove
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

// TestOnlyTheTargetCounts: a dead old registry is reported, but it does not keep
// the node from being ready.
func TestOnlyTheTargetCounts(t *testing.T) {
	t.Parallel()
	target := upstream.Upstream{Host: "b.example.com", Scheme: upstream.HTTPS}
	old := upstream.Upstream{Host: "a.example.com", Scheme: upstream.HTTPS}
	l := layout.Layout{Target: target, Routes: []layout.Route{{Name: layout.Fixed(), Upstreams: []upstream.Upstream{target, old}}}}
	for dead, want := range map[string]bool{"a.example.com": true, "b.example.com": false} {
		c := New("node", time.Minute, 0)
		c.ping = func(_ context.Context, u upstream.Upstream) error {
			if u.Host == dead {
				return errors.New("no route to host")
			}
			return nil
		}
		c.prove = func(ctx context.Context, l layout.Layout) error { return c.ping(ctx, l.Target) }
		r := report.New(report.Options{}).Begin()
		if got := c.Check(t.Context(), r, l); got != want || len(r.Problems()) == 0 != want {
			t.Errorf("%s is dead: %t, problems %q", dead, got, r.Problems())
		}
		for _, u := range r.Status.Upstreams {
			if bad := strings.Contains(u.Registry, dead); u.Reached == bad || (u.Message != "") != bad {
				t.Errorf("%s is dead: %+v", dead, u)
			}
		}
		if len(r.Status.Upstreams) != 2 {
			t.Errorf("%+v", r.Status.Upstreams)
		}
	}
}

// TestTheTargetAloneIsProved: that something answers is not enough. The old registry
// of the union, which is healthy, answers for nobody else.
func TestTheTargetAloneIsProved(t *testing.T) {
	t.Parallel()
	old := testregistry.New(t, testregistry.Options{})
	good := testregistry.New(t, testregistry.Options{Username: "u", Password: "p", Bearer: true})
	for _, r := range []*testregistry.Registry{old, good} {
		r.PushRandom(t, "d8", "module", 1, 10)
	}
	status := func(code int) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
	}
	for name, tc := range map[string]struct {
		answer http.HandlerFunc
		want   string // in the node's message; empty: it may report
		older  bool   // the controller that published it
	}{
		"healthy":            {},
		"a web page":         {answer: testregistry.WebPage, want: "answered with a web page"},
		"not found":          {answer: status(404), want: "not found"},
		"nothing":            {answer: status(200), want: "answered with nothing"},
		"no content":         {answer: status(204), want: "answered 204"},
		"refused":            {answer: status(403), want: "refused us although"},
		"dead":               {answer: status(503), want: "503"},
		"page, older layout": {answer: testregistry.WebPage, older: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			target := good.Upstream("d8")
			if tc.answer != nil {
				bad := testregistry.New(t, testregistry.Options{})
				bad.SetFaults(testregistry.Faults{Answer: tc.answer})
				target = bad.Upstream("d8")
			}
			l := layout.Layout{Target: target, Probe: ":module", Routes: layout.Cross([]layout.Name{layout.Fixed()}, []upstream.Upstream{old.Upstream("d8"), target})}
			if tc.older {
				l.Probe = ""
			}
			r := report.New(report.Options{}).Begin()
			ok := New("node", time.Hour, 0).Check(t.Context(), r, l)
			if problems := strings.Join(r.Problems(), "; "); ok != (tc.want == "") || !strings.Contains(problems, tc.want) {
				t.Errorf("%t %q", ok, problems)
			}
			if len(r.Status.Upstreams) != 2 {
				t.Errorf("%+v", r.Status.Upstreams)
			}
		})
	}
}

// TestASettledTargetMayLoseTheProbe: once the target is the registry that serves the
// cluster, nothing hangs on the proof, and the image of an older version of the module
// may be gone from it. A node that joins or reboots then must not stay tainted. If it
// refuses us altogether, that is reported as pulls that fail.
func TestASettledTargetMayLoseTheProbe(t *testing.T) {
	t.Parallel()
	status := func(code int) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
	}
	images := func(code int) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/v2/" {
				w.WriteHeader(code)
			}
		}
	}
	for name, tc := range map[string]struct {
		answer  http.HandlerFunc
		other   bool // the active registry is another one
		want    string
		failing bool
		stands  bool // what is reported holds nothing up
	}{
		"pruned":                       {},
		"a limit of the rate":          {answer: status(429)},
		"401 for what is not there":    {answer: images(401)},
		"pruned, of a new target":      {other: true, want: "not found"},
		"a limit, of a new target":     {answer: status(429), other: true, want: "429"},
		"refuses one, of a new target": {answer: images(401), other: true, want: "refused us"},
		"refuses all, of a new target": {answer: status(403), other: true, want: "refused us"},
		"refuses all":                  {answer: status(403), want: "refused us", failing: true, stands: true},
		"a web page":                   {answer: testregistry.WebPage, want: "web page", stands: true},
		"maintenance":                  {answer: status(503), want: "503", stands: true},
		"a web page, of a new target":  {answer: testregistry.WebPage, other: true, want: "web page"},
		"maintenance of a new target":  {answer: status(503), other: true, want: "503"},
		"dead":                         {answer: func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, want: "EOF"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			reg := testregistry.New(t, testregistry.Options{})
			reg.PushRandom(t, "d8", "newer", 1, 10)
			reg.SetFaults(testregistry.Faults{Answer: tc.answer})
			target := reg.Upstream("d8")
			l := layout.Layout{Mode: "Direct", ActiveMode: "Direct", Active: target, Target: target, Probe: ":older", Routes: layout.Cross([]layout.Name{layout.Fixed()}, []upstream.Upstream{target})}
			if tc.other {
				l.Active.Host = "old.example.com"
			}
			r := report.New(report.Options{}).Begin()
			ok := New("node", time.Hour, 0).Check(t.Context(), r, l)
			if problems := strings.Join(r.Problems(), "; "); ok != (tc.want == "" || tc.stands) || !strings.Contains(problems, tc.want) {
				t.Errorf("%t %q", ok, problems)
			}
			if u := r.Status.Upstreams[0]; u.Reached != (tc.want == "") || u.Failing != tc.failing || !strings.Contains(u.Message, tc.want) {
				t.Errorf("%+v", u)
			}
		})
	}
}

// TestAProofIsForCredentials: other credentials of the same registry are proved anew,
// and a target that was proved is left alone for the interval. One that refuses us is
// not asked in every pass.
func TestAProofIsForCredentials(t *testing.T) {
	t.Parallel()
	reg := testregistry.New(t, testregistry.Options{Username: "u", Password: "p"})
	reg.PushRandom(t, "d8", "module", 1, 10)
	good, wrong := reg.Upstream("d8"), reg.Upstream("d8")
	wrong.Credentials.Password = "of-yesterday"
	c, now := New("node", time.Hour, 0), time.Now()
	c.now = func() time.Time { return now }
	for i, step := range []struct {
		target upstream.Upstream
		after  time.Duration
		ok     bool
		asks   bool
	}{
		{good, 0, true, true}, {good, time.Minute, true, false}, {good, time.Hour, true, true},
		{wrong, 0, false, true}, {wrong, time.Second, false, false}, {wrong, deadAgain, false, true}, {good, 0, true, true},
	} {
		now = now.Add(step.after)
		reg.ResetLog()
		l := layout.Layout{Target: step.target, Probe: ":module", Routes: layout.Cross([]layout.Name{layout.Fixed()}, []upstream.Upstream{step.target})}
		r := report.New(report.Options{}).Begin()
		if ok := c.Check(t.Context(), r, l); ok != step.ok || len(reg.Requests()) > 0 != step.asks {
			t.Errorf("step %d: %t after %d requests: %q", i, ok, len(reg.Requests()), r.Problems())
		}
		if strings.Contains(strings.Join(r.Problems(), ""), "of-yesterday") {
			t.Error("a password in a message")
		}
	}
}

// TestAProvedTargetIsNotPulledFrom: some registries count each manifest, and a node asks
// every few minutes. What answers as none any more is asked for the image again.
func TestAProvedTargetIsNotPulledFrom(t *testing.T) {
	t.Parallel()
	reg := testregistry.New(t, testregistry.Options{Username: "u", Password: "p", Bearer: true})
	reg.PushRandom(t, "d8", "module", 1, 10)
	l := layout.Layout{Target: reg.Upstream("d8"), Probe: ":module", Routes: layout.Cross([]layout.Name{layout.Fixed()}, []upstream.Upstream{reg.Upstream("d8")})}
	c, now := New("node", time.Hour, 0), time.Now()
	c.now = func() time.Time { return now }
	for i, step := range []struct {
		faults    testregistry.Faults
		ok, pulls bool
	}{
		{testregistry.Faults{}, true, true}, {testregistry.Faults{}, true, false}, {testregistry.Faults{}, true, false},
		{testregistry.Faults{Answer: testregistry.WebPage}, false, true}, {testregistry.Faults{}, true, true}, {testregistry.Faults{}, true, false},
	} {
		reg.SetFaults(step.faults)
		reg.ResetLog()
		if ok := c.Check(t.Context(), report.New(report.Options{}).Begin(), l); ok != step.ok {
			t.Errorf("step %d: %t", i, ok)
		}
		pulls := slices.ContainsFunc(reg.Requests(), func(r testregistry.Request) bool { return strings.Contains(r.Path, "/manifests/") })
		if pulls != step.pulls || len(reg.Requests()) == 0 {
			t.Errorf("step %d: pulls %t, %d requests", i, pulls, len(reg.Requests()))
		}
		now = now.Add(time.Hour)
	}
}

// TestFails: what the data path sees of the target is reported beside what was proved.
func TestFails(t *testing.T) {
	t.Parallel()
	target := upstream.Upstream{Host: "b.example.com", Scheme: upstream.HTTPS}
	r := report.New(report.Options{}).Begin()
	r.Status.Upstreams = []registryv1alpha1.UpstreamStatus{{Registry: "https://a.example.com", Reached: true}, {Registry: target.String(), Reached: true}}
	Fails(r, layout.Layout{Target: target}, "")
	if len(r.Problems()) > 0 {
		t.Errorf("%q", r.Problems())
	}
	Fails(r, layout.Layout{Target: target}, "pulls from it fail: 503")
	if u := r.Status.Upstreams; u[0].Failing || !u[1].Failing || !u[1].Reached || u[1].Message != "pulls from it fail: 503" || len(r.Problems()) != 1 {
		t.Errorf("%+v %q", u, r.Problems())
	}
}
