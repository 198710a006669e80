package charts

import (
	"bytes"
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/d8-registry/registry/internal/control/uninstall"
	"github.com/d8-registry/registry/test/harness/kubelet"
)

// hookRuns stands in for the node that runs Pod registry-uninstall: it runs the
// program that the Pod names, with the rights of the Pod's ServiceAccount.
type hookRuns struct {
	mu   sync.Mutex
	said []string // what each run told, with its error
}

func (h *hookRuns) last() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.said) == 0 {
		return ""
	}
	return h.said[len(h.said)-1]
}

func (c cluster) runHooks(t *testing.T) *hookRuns {
	t.Helper()
	h := &hookRuns{}
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() {
		done := map[string]bool{}
		for ctx.Err() == nil {
			select {
			case <-ctx.Done():
			case <-time.After(100 * time.Millisecond):
			}
			pod := &corev1.Pod{}
			if c.Get(ctx, client.ObjectKey{Namespace: "d8-system", Name: "registry-uninstall"}, pod) != nil || done[string(pod.UID)] {
				continue
			}
			done[string(pod.UID)] = true
			var told bytes.Buffer
			err := uninstall.Run(ctx, uninstall.Config{REST: c.as(ctx, t, pod.Spec.ServiceAccountName), Timeout: time.Minute, AgentTimeout: time.Second}, &told)
			ended := corev1.PodSucceeded
			if err != nil {
				ended = corev1.PodFailed
				told.WriteString(err.Error())
			}
			h.mu.Lock()
			h.said = append(h.said, told.String())
			h.mu.Unlock()
			if err := kubelet.Report(ctx, c, pod, kubelet.Fate{Ended: ended}); err != nil && ctx.Err() == nil {
				t.Errorf("end of the hook: %v", err)
			}
		}
	})
	t.Cleanup(func() { cancel(); running.Wait() })
	return h
}

// as is a configuration with a token of the ServiceAccount and nothing else.
func (c cluster) as(ctx context.Context, t *testing.T, name string) *rest.Config {
	sa := &corev1.ServiceAccount{}
	sa.Namespace, sa.Name = "d8-system", name
	token := &authenticationv1.TokenRequest{}
	if err := c.SubResource("token").Create(ctx, sa, token); err != nil {
		t.Errorf("token of %s: %v", name, err)
	}
	config := c.plane.Config()
	config.CertData, config.KeyData, config.BearerToken = nil, nil, token.Status.Token
	return config
}

// state writes what the controller would have stored.
func (c cluster) state(t *testing.T, mode, ready string) {
	t.Helper()
	secret := &corev1.Secret{}
	secret.Namespace, secret.Name = "d8-system", "registry-state"
	secret.Labels = map[string]string{"app.kubernetes.io/managed-by": "registry-controller"}
	secret.Data = map[string][]byte{"mode": []byte(mode), "target_mode": []byte(mode), "state": []byte(strings.NewReplacer("MODE", mode, "READY", ready).Replace(`
schema: 1
generation: 4
active: {mode: MODE, upstream: {scheme: https, host: b.example.test, path: mirror}}
target: {mode: MODE, upstream: {scheme: https, host: b.example.test, path: mirror}}
desired: {}
conditions:
- {type: FinalContainerdConfigReady, status: "READY", reason: "", message: "1/2 node(s) ready", lastTransitionTime: "2026-11-22T00:00:00Z"}
- {type: Ready, status: "READY", reason: "", message: "", lastTransitionTime: "2026-11-22T00:00:00Z"}
`))}
	err := c.Create(t.Context(), secret.DeepCopy())
	if err != nil {
		err = c.Update(t.Context(), secret)
	}
	if err != nil {
		t.Fatal(err)
	}
}
