package installation

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"log/slog"
	"os"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/foreign"
)

// logged is what programs of a test have logged. With REGISTRY_TEST_LOG people see it, and
// the end of it when the test fails.
type logged struct {
	mu  sync.Mutex
	all bytes.Buffer
}

// mostShown is how much of the log a test shows that fails, in bytes.
const mostShown = 16 << 10

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if os.Getenv("REGISTRY_TEST_LOG") != "" {
		_, _ = os.Stderr.Write(p)
	}
	return l.all.Write(p)
}

// String is all of it. Some that log are not waited for, such as who writes Events.
func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all.String()
}

// Log is what programs in a test write to. At its end the test fails if a secret of this
// cluster is there, see wantNoSecretShown.
func (c *Cluster) Log() *slog.Logger { return foreign.NewLog(&c.logged, slog.LevelDebug) }

// Hide adds secrets that may not be shown, beside those that the cluster's Secrets hold.
func (c *Cluster) Hide(secrets ...string) { c.hidden = append(c.hidden, secrets...) }

// wantNoSecretShown fails if a log, a condition or an Event shows a password or a key of
// this cluster.
func (c *Cluster) wantNoSecretShown() {
	c.t.Helper()
	if c.t.Failed() {
		all := c.logged.String()
		c.t.Logf("the end of the log:\n%s", all[max(0, len(all)-mostShown):])
	}
	ctx := context.WithoutCancel(c.t.Context())
	var secrets corev1.SecretList
	var events eventsv1.EventList
	for _, list := range []client.ObjectList{&secrets, &events} {
		if err := c.List(ctx, list); err != nil {
			c.t.Logf("whether a secret is shown was not looked at: %v", err)
			return
		}
	}
	shown := map[string]string{"the log": c.logged.String()}
	for i := range events.Items {
		shown["an Event"] += events.Items[i].Note + "\n"
	}
	hidden := c.hidden
	for i := range secrets.Items {
		s := &secrets.Items[i]
		if s.Namespace == v1alpha1.Namespace && s.Name == v1alpha1.SecretState {
			shown["a condition"] = string(s.Data["conditions"])
		}
		hidden = append(hidden, secretsOf(s)...)
	}
	for where, text := range shown {
		for _, secret := range hidden {
			if len(secret) > 3 && strings.Contains(text, secret) {
				c.t.Errorf("%s shows a secret of %d bytes: %.3s…", where, len(secret), secret)
			}
		}
	}
}

// secretsOf are the passwords and keys of a Secret.
func secretsOf(s *corev1.Secret) []string {
	var all []string
	for key, value := range s.Data {
		lines := strings.Split(string(value), "\n")
		switch {
		case key == "password":
			all = append(all, string(value))
		case strings.HasSuffix(key, ".key") && len(lines) > 1: // PEM
			all = append(all, lines[1])
		}
	}
	var config struct {
		Auths map[string]struct{ Password, Auth string }
	}
	if json.Unmarshal(s.Data[corev1.DockerConfigJsonKey], &config) == nil {
		for _, a := range config.Auths {
			pair, _ := base64.StdEncoding.DecodeString(a.Auth)
			_, password, _ := strings.Cut(string(pair), ":")
			all = append(all, a.Password, password, a.Auth)
		}
	}
	return all
}
