package controller

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	plugin "k8s.io/kubelet/pkg/apis/credentialprovider/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	deckhousev1alpha1 "github.com/d8-registry/registry/api/deckhouse/v1alpha1"
	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/control/switchover"
	"github.com/d8-registry/registry/internal/datapath/proxy"
	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/upstream"
	"github.com/d8-registry/registry/test/harness/credplugin"
	"github.com/d8-registry/registry/test/harness/installation"
	"github.com/d8-registry/registry/test/harness/testregistry"
)

// issuer is a cloud whose tokens are good for a few seconds: each second the plugin gives
// another one for both registries, and the fifth last ends.
type issuer struct {
	c      *testbed
	plugin *credplugin.Plugin
	issued atomic.Int64
	stop   func()
}

func issue(c *testbed) *issuer {
	i := &issuer{c: c, plugin: credplugin.New(c.t, c.a.Host(), c.b.Host())}
	c.cfg.CredentialProviders, c.cfg.CredentialPlugins, c.cfg.CredentialsSoonest = i.plugin.Config, i.plugin.Dir, 200*time.Millisecond
	ctx, cancel := context.WithCancel(c.t.Context())
	var running sync.WaitGroup
	i.next()
	running.Go(func() {
		for ctx.Err() == nil {
			select {
			case <-time.After(time.Second):
				i.next()
			case <-ctx.Done():
			}
		}
	})
	i.stop = sync.OnceFunc(func() { cancel(); running.Wait() })
	c.t.Cleanup(i.stop)
	return i
}

func (i *issuer) next() {
	n := i.issued.Add(1)
	auth := map[string]plugin.AuthConfig{}
	for _, r := range []*testregistry.Registry{i.c.a, i.c.b} {
		name, password := fmt.Sprintf("token-%d", n), fmt.Sprintf("secret-%d-of-%s", n, r.Host())
		r.AddUser(name, password)
		r.RemoveUser(fmt.Sprintf("token-%d", n-5))
		auth[r.Host()] = plugin.AuthConfig{Username: name, Password: password}
	}
	i.plugin.Does(credplugin.Script{Stdout: credplugin.Answers(auth, 2*time.Second)})
}

// provided is an upstream as a state has it.
func provided(u upstream.Upstream) upstream.Upstream {
	u.Provided = true
	return u.Lasting()
}

// watch looks at what must hold all the time: within one target no condition goes back,
// and every pull is served. It returns what ends it, and says what was wrong.
func (i *issuer) watch(ready bool) (end func() (wrong []string, pulls int)) {
	c := i.c
	handler := proxy.New(c.sim.table, proxy.Config{Log: slog.New(slog.DiscardHandler), DefaultHost: layout.Fixed().Host})
	ctx, cancel := context.WithCancel(c.t.Context())
	var running sync.WaitGroup
	var wrong []string
	pulls := 0
	running.Go(func() {
		var before view
		for ctx.Err() == nil {
			now := c.state()
			for _, was := range before.conditions {
				if was.Status == metav1.ConditionTrue && now.condition(was.Type).Status != metav1.ConditionTrue && now.doc.Target == before.doc.Target || ready && !now.ready(switchover.Direct) {
					wrong = append(wrong, fmt.Sprintf("%s goes back\n%v", was.Type, now))
				}
			}
			before = now
			answer := httptest.NewRecorder()
			handler.ServeHTTP(answer, httptest.NewRequestWithContext(ctx, http.MethodGet, "/v2/"+layout.Fixed().Path+"/manifests/v1", nil))
			if pulls++; answer.Code != http.StatusOK && ctx.Err() == nil {
				wrong = append(wrong, fmt.Sprintf("a pull: %d %s", answer.Code, answer.Body))
			}
			installation.Pause(10 * time.Millisecond)
		}
	})
	return func() ([]string, int) {
		cancel()
		running.Wait()
		return wrong[:min(len(wrong), 5)], pulls
	}
}

// user is whose credentials are published.
func (i *issuer) user() string { return layoutOf(i.c).Target.Credentials.Username }

func layoutOf(c *testbed) layout.Layout {
	c.t.Helper()
	l, err := layout.Decode(c.secret(v1alpha1.SecretLayout).Data[v1alpha1.KeyLayout])
	if err != nil {
		c.t.Fatal(err)
	}
	return l
}

// TestCredentialsChangeDuringASwitch every second, of both registries: nothing is begun
// again, no generation is taken and nothing restarts because of that, and no pull is
// lost. Afterwards they go on changing, and in Unmanaged in Secret deckhouse-registry.
func TestCredentialsChangeDuringASwitch(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	i := issue(c)
	c.begin()
	c.switchTo(provided(c.upstreamA()))
	c.eventually("the proxy serves", func() bool { return c.sim.table.Generation() > 0 })

	end := i.watch(false)
	began, from := i.issued.Load(), c.state().doc.Generation
	c.sim.set(func(s *simulator) { s.silent["worker"] = true }) // so that a barrier takes a while
	c.ask(settingsOf(provided(c.upstreamB())))
	c.until("the switch waits", func(v view) bool {
		return v.doc.Target.Upstream == provided(c.upstreamB()) && v.doc.WaitsAt().Type == v1alpha1.ConditionTransition
	})
	for first := i.issued.Load(); i.issued.Load() < first+6; {
		installation.Pause(50 * time.Millisecond)
	}
	c.sim.set(func(s *simulator) { s.silent["worker"] = false })
	v := c.reaches(switchover.Direct, provided(c.upstreamB()))
	wrong, pulls := end()
	for _, w := range wrong {
		t.Error(w)
	}
	if took := v.doc.Generation - from; took > 3 {
		t.Errorf("the switch took %d generations: a target, a union and a final layout are 3", took)
	}
	t.Logf("%d credentials were issued during the switch, and %d pulls served", i.issued.Load()-began, pulls)

	restarts := c.restarts()
	end = i.watch(true)
	users := map[string]bool{}
	for first := i.issued.Load(); i.issued.Load() < first+6; installation.Pause(50 * time.Millisecond) {
		users[i.user()] = true
	}
	wrong, _ = end()
	for _, w := range wrong {
		t.Error(w)
	}
	if after := c.state(); len(users) < 3 || after.doc.Generation != v.doc.Generation || !maps.Equal(c.restarts(), restarts) {
		t.Errorf("%d credentials published, generation %d after %d, restarts %v, before %v", len(users), after.doc.Generation, v.doc.Generation, c.restarts(), restarts)
	}

	c.ask(unmanaged)
	v = c.reaches(switchover.Unmanaged, provided(c.upstreamB()))
	config := func() string { return string(c.secret(v1alpha1.SecretRegistry).Data[corev1.DockerConfigJsonKey]) }
	for range 3 {
		was := config()
		c.eventually("deckhouse-registry has others", func() bool { return config() != was && strings.Contains(config(), "token-") })
	}
	if after := c.state(); after.doc.Generation != v.doc.Generation || !after.ready(switchover.Unmanaged) {
		t.Errorf("new credentials begin a switch:\n%v", after)
	}
}

// TestAPluginThatFails: settings without credentials are not followed before there are
// some, and the last good ones are used as long as they last: by the next leader too, and
// if the state is lost in the middle of a switch. Module registry says why, and shows
// nothing of what the plugin says.
func TestAPluginThatFails(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	a, b := c.upstreamA(), c.upstreamB()
	p := credplugin.New(t, a.Host, b.Host)
	c.cfg.CredentialProviders, c.cfg.CredentialPlugins, c.cfg.CredentialsSoonest = p.Config, p.Dir, 100*time.Millisecond
	fails := credplugin.Script{Stderr: "SECRET", Stdout: "SECRET", Exit: 3}
	p.Does(fails)
	stop := c.begin()
	c.ask(proxySettings(provided(b)))
	c.says("registry.proxy: there are no credentials of " + b.String() + " yet: ")
	c.ask(settingsOf(provided(b)))
	c.until("Ready says why", func(v view) bool {
		return strings.Contains(v.condition(v1alpha1.ConditionReady).Message, "registry.direct: there are no credentials of "+b.String()+" yet: provider test-provider: the plugin ends with exit status 3")
	})
	if v := c.state(); v.target != string(switchover.Unmanaged) || strings.Contains(v.String(), "SECRET") {
		t.Fatalf("%v", v)
	}
	p.Does(credplugin.Script{Stdout: credplugin.Answers(map[string]plugin.AuthConfig{
		a.Host: plugin.AuthConfig(a.Credentials), b.Host: plugin.AuthConfig(b.Credentials),
	}, time.Second)})
	c.reaches(switchover.Direct, provided(b))
	c.sim.set(func(s *simulator) { s.silent["worker"] = true })
	c.ask(settingsOf(provided(a)))
	c.until("both are published", func(v view) bool {
		return v.doc.Target.Upstream == provided(a) && v.doc.WaitsAt().Type == v1alpha1.ConditionTransition
	})
	p.Does(fails)
	c.eventually("Module registry says why", func() bool {
		var module deckhousev1alpha1.Module
		if err := c.Get(t.Context(), client.ObjectKey{Name: v1alpha1.ModuleName}, &module); err != nil {
			t.Fatal(err)
		}
		text := fmt.Sprint(module.Status)
		return strings.Contains(text, "The credentials of "+b.String()+" are not renewed: provider test-provider: the plugin ends with exit status 3; the last good ones are used, until 20") && !strings.Contains(text, "SECRET")
	})
	stop()
	if err := c.Delete(t.Context(), c.secret(v1alpha1.SecretState)); err != nil {
		t.Fatal(err)
	}
	c.start(nil)
	c.sim.set(func(s *simulator) { s.silent["worker"] = false })
	c.reaches(switchover.Direct, provided(a))
	c.sim.set(func(s *simulator) {
		for _, l := range s.history {
			for _, u := range l.Upstreams() {
				if u.Provided && u.Credentials.IsZero() {
					t.Errorf("generation %d was published without credentials of %s", l.Generation, u)
				}
			}
		}
	})
	if got := layoutOf(c).Target.Credentials; got != a.Credentials {
		t.Error("others are published than the last good ones")
	}
}
