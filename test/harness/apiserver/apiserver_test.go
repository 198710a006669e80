package apiserver

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

func TestTokenKnowsNodeAndPod(t *testing.T) {
	t.Parallel()
	api := server.Start(t)
	c := api.ClientFor(t, api.As(t, Process{ServiceAccount: "someone", Node: "n1"}))
	review := &authenticationv1.SelfSubjectReview{}
	if err := c.Create(t.Context(), review); err != nil {
		t.Fatal(err)
	}
	user := review.Status.UserInfo
	if want := "system:serviceaccount:d8-system:someone"; user.Username != want {
		t.Errorf("user %q, want %q", user.Username, want)
	}
	for key, want := range map[string]string{
		"authentication.kubernetes.io/node-name": "n1",
		"authentication.kubernetes.io/pod-name":  "someone-n1",
	} {
		if got := user.Extra[key]; len(got) != 1 || got[0] != want {
			t.Errorf("%s = %q, want %q", key, got, want)
		}
	}
}

func TestMissingBinaryNamesTheRemedy(t *testing.T) {
	t.Setenv(EnvAssets, t.TempDir())
	_, err := Binary("no-such-part")
	if !errors.Is(err, ErrNoBinaries) {
		t.Errorf("error %v, want ErrNoBinaries", err)
	}
}

func TestFaultProxyCountsWritesOnly(t *testing.T) {
	t.Parallel()
	api := server.Start(t)
	ns := api.Namespace(t)
	proxy := NewFaultProxy(t, api.Config())
	c := api.ClientFor(t, proxy.Config())
	cm := configMap(ns, "a")
	if err := c.Create(t.Context(), cm.DeepCopy(), client.DryRunAll); err != nil {
		t.Fatal(err)
	}
	if err := c.Create(t.Context(), cm); err != nil {
		t.Fatal(err)
	}
	if err := c.Get(t.Context(), client.ObjectKeyFromObject(cm), cm); err != nil {
		t.Fatal(err)
	}
	want := "POST /api/v1/namespaces/" + ns + "/configmaps"
	if got := proxy.Writes(); len(got) != 1 || got[0] != want {
		t.Errorf("writes %q, want only %q", got, want)
	}
}

func TestFaultProxyFails(t *testing.T) {
	t.Parallel()
	api := server.Start(t)
	for _, moment := range []Moment{Before, After} {
		t.Run(moment.String(), func(t *testing.T) {
			t.Parallel()
			ns := api.Namespace(t)
			proxy := NewFaultProxy(t, api.Config())
			c := api.ClientFor(t, proxy.Config())
			failed := proxy.Fail(2, moment)
			if err := c.Create(t.Context(), configMap(ns, "first")); err != nil {
				t.Fatal(err)
			}
			if err := c.Create(t.Context(), configMap(ns, "second")); err == nil {
				t.Error("the write that fails was answered")
			}
			<-failed
			if err := c.Create(t.Context(), configMap(ns, "third")); err == nil {
				t.Error("a write passed a proxy that is cut off")
			}
			// Not by the client: it would try again for ten seconds.
			if resp, err := http.Get(proxy.Config().Host + "/readyz"); err == nil {
				_ = resp.Body.Close()
				t.Error("a read passed a proxy that is cut off")
			}
			if got, want := present(t, api, ns, "second"), moment == After; got != want {
				t.Errorf("second is there: %v, want %v", got, want)
			}
			proxy.Revive()
			if err := c.Create(t.Context(), configMap(ns, "fourth")); err != nil {
				t.Errorf("after Revive: %v", err)
			}
			if present(t, api, ns, "third") {
				t.Error("third arrived after all")
			}
		})
	}
}

func TestFaultProxyRefusesOnce(t *testing.T) {
	t.Parallel()
	api := server.Start(t)
	ns := api.Namespace(t)
	proxy := NewFaultProxy(t, api.Config())
	c := api.ClientFor(t, proxy.Config())
	proxy.Refuse(1, http.StatusInternalServerError)
	if err := c.Create(t.Context(), configMap(ns, "a")); err == nil {
		t.Error("the refused write succeeded")
	}
	if err := c.Create(t.Context(), configMap(ns, "a")); err != nil {
		t.Errorf("the next write: %v", err)
	}
}

func TestFaultProxyHoldsALateWrite(t *testing.T) {
	t.Parallel()
	api := server.Start(t)
	ns := api.Namespace(t)
	proxy := NewFaultProxy(t, api.Config())
	c := api.ClientFor(t, proxy.Config())
	held, release := proxy.Hold(1)
	late := make(chan error, 1)
	go func() { late <- c.Create(t.Context(), configMap(ns, "late")) }()
	<-held
	if err := c.Create(t.Context(), configMap(ns, "early")); err != nil {
		t.Fatal(err)
	}
	if present(t, api, ns, "late") {
		t.Error("the held write arrived early")
	}
	release()
	if err := <-late; err != nil {
		t.Errorf("the held write: %v", err)
	}
}

func configMap(ns, name string) *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: name}}
}

func present(t *testing.T, api *API, ns, name string) bool {
	t.Helper()
	err := api.Client().Get(t.Context(), client.ObjectKey{Namespace: ns, Name: name}, &corev1.ConfigMap{})
	if client.IgnoreNotFound(err) != nil {
		t.Fatal(err)
	}
	return err == nil
}

func TestAnotherVersionIsAnError(t *testing.T) {
	config := server.Start(t).Config()
	t.Setenv(EnvServer, "1.0")
	if version, err := askVersion(t.Context(), config); err == nil {
		t.Errorf("%s passes for 1.0", version)
	}
	if got, want := serverPart(), "kube-apiserver-1.0"; got != want {
		t.Errorf("part %s, want %s", got, want)
	}
	t.Setenv(EnvServer, "")
	version, err := askVersion(t.Context(), config)
	if err != nil || serverPart() != "kube-apiserver" {
		t.Errorf("without %s: %s, %v", EnvServer, serverPart(), err)
	}
	minor := strings.Split(strings.TrimPrefix(version, "v"), ".")[1]
	for want, ok := range map[string]bool{"1." + minor: true, "1." + minor[:1]: false} {
		t.Setenv(EnvServer, want)
		if _, err := askVersion(t.Context(), config); (err == nil) != ok {
			t.Errorf("%s asked for %s: %v", version, want, err)
		}
	}
}
