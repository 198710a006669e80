package gateway

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/datapath/front"
	"github.com/d8-registry/registry/internal/datapath/regauth"
)

// A download that goes on is reported again and again, at most once a minute:
// the controller removes a proxy that nobody has used for a while.
func TestLongDownloadsStayReported(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		client := fake.NewClientset(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "n", Name: "p"}})
		u := front.NewUsage(time.Now)
		r := &reporter{
			client: client, namespace: "n", pod: "p", every: time.Minute, log: slog.New(slog.DiscardHandler),
			usage: u, status: func() front.Status { return front.Status{} }, changed: make(chan struct{}, 1), now: time.Now,
		}
		ctx, stop := context.WithCancel(t.Context())
		defer synctest.Wait()
		defer stop()
		go r.run(ctx)
		synctest.Wait()
		reported := func() time.Duration {
			synctest.Wait()
			pod, err := client.CoreV1().Pods("n").Get(t.Context(), "p", metav1.GetOptions{})
			if err != nil {
				t.Fatal(err)
			}
			at, err := time.Parse(time.RFC3339, pod.Annotations[v1alpha1.AnnotationLastUse])
			if err != nil {
				t.Fatal(err)
			}
			return time.Since(at)
		}
		ended := u.Note("10.0.0.1:1")
		before := len(client.Actions())
		<-time.After(30*time.Minute + time.Second)
		if age := reported(); age > time.Minute+time.Second {
			t.Errorf("last use is reported as %s ago, with a download under way", age)
		}
		if n := len(client.Actions()) - before; n > 32 {
			t.Errorf("%d writes within 30 minutes", n)
		}
		ended()
		<-time.After(2 * time.Minute)
		if age := reported(); age < time.Minute || age > 2*time.Minute+time.Second {
			t.Errorf("reported as %s ago, 2 minutes after its end", age)
		}
		writes := len(client.Actions())
		<-time.After(time.Hour)
		synctest.Wait()
		if n := len(client.Actions()) - writes; n > 0 {
			t.Errorf("%d actions while nothing happens", n)
		}
	})
}

// TestAReportIsTheSameAtEachTry: an error of a connection has another port of ours each
// time. A report with it would be a write of the Pod at each try.
func TestAReportIsTheSameAtEachTry(t *testing.T) {
	t.Parallel()
	message := func(port string) any {
		s := front.Status{Problem: errors.New("target https://a/b: read tcp 10.0.0.6:" + port + "->10.0.0.1:443: reset\x1b[2J")}
		r := &reporter{status: func() front.Status { return s }, usage: front.NewUsage(time.Now)}
		return r.annotations()[v1alpha1.AnnotationMessage]
	}
	if a, b := message("1001"), message("1002"); a != b || a != "target https://a/b: read tcp 10.0.0.1:443: reset\ufffd[2J" {
		t.Errorf("%q, then %q", a, b)
	}
}

// TestOldPasswordsAreReported: by user, with the address, and no more often than other
// uses, however often a node comes with one.
func TestOldPasswordsAreReported(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		client := fake.NewClientset(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "n", Name: "p"}})
		u := front.NewUsage(time.Now)
		r := &reporter{
			client: client, namespace: "n", pod: "p", every: time.Minute, log: slog.New(slog.DiscardHandler),
			usage: u, status: func() front.Status { return front.Status{Identity: "i"} }, changed: make(chan struct{}, 1), now: time.Now,
		}
		ctx, stop := context.WithCancel(t.Context())
		defer synctest.Wait()
		defer stop()
		go r.run(ctx)
		synctest.Wait()
		users, err := regauth.NewUsers([]regauth.User{
			{Name: "node", SHA256: hashOf("new"), Role: regauth.RoleNode}, {Name: "node", SHA256: hashOf("old"), Role: regauth.RoleNode},
		})
		if err != nil {
			t.Fatal(err)
		}
		h := regauth.Require(func() *regauth.Users { return users }, u.Counted(http.NotFoundHandler()))
		ask := func(password string) {
			req := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/v2/", nil)
			req.RemoteAddr = "10.0.0.7:1234"
			req.SetBasicAuth("node", password)
			h.ServeHTTP(httptest.NewRecorder(), req)
			synctest.Wait()
		}
		told := func() (identity, old string) {
			pod, err := client.CoreV1().Pods("n").Get(t.Context(), "p", metav1.GetOptions{})
			if err != nil {
				t.Fatal(err)
			}
			return pod.Annotations[v1alpha1.AnnotationIdentity], pod.Annotations[v1alpha1.AnnotationOldUse]
		}
		ask("new")
		if identity, old := told(); identity != "i" || old != "" {
			t.Errorf("%q, %q", identity, old)
		}
		before := len(client.Actions())
		for range 600 {
			ask("old")
			<-time.After(time.Second)
		}
		synctest.Wait()
		if n := len(client.Actions()) - before; n > 12 {
			t.Errorf("%d writes in 10 minutes", n)
		}
		_, old := told()
		at, rest, _ := strings.Cut(strings.TrimPrefix(old, "node "), " ")
		if when, err := time.Parse(time.RFC3339, at); err != nil || time.Since(when) > 2*time.Minute || rest != "10.0.0.7" {
			t.Errorf("it is told as %q", old)
		}
	})
}

func hashOf(password string) string {
	sum := sha256.Sum256([]byte(password))
	return hex.EncodeToString(sum[:])
}

// TestAProxySaysWhatItReads with whatever else it says, so that the controller never
// publishes what it cannot read.
func TestAProxySaysWhatItReads(t *testing.T) {
	t.Parallel()
	r := &reporter{status: func() front.Status { return front.Status{} }, usage: front.NewUsage(time.Now)}
	if got := r.annotations()[v1alpha1.AnnotationLayoutSchema]; got != "2" {
		t.Errorf("it says %v", got)
	}
}
