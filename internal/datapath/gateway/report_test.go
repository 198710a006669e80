package gateway

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
)

// A download that goes on is reported again and again, at most once a minute:
// the controller removes a proxy that nobody has used for a while.
func TestLongDownloadsStayReported(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		client := fake.NewClientset(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "n", Name: "p"}})
		u := newUsage(time.Now)
		r := &reporter{
			client: client, namespace: "n", pod: "p", every: time.Minute, log: slog.New(slog.DiscardHandler),
			usage: u, status: func() status { return status{} }, changed: make(chan struct{}, 1), now: time.Now,
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
		ended := u.note("10.0.0.1:1")
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
		s := status{problem: errors.New("target https://a/b: read tcp 10.0.0.6:" + port + "->10.0.0.1:443: reset\x1b[2J")}
		r := &reporter{status: func() status { return s }, usage: newUsage(time.Now)}
		return r.annotations()[v1alpha1.AnnotationMessage]
	}
	if a, b := message("1001"), message("1002"); a != b || a != "target https://a/b: read tcp 10.0.0.1:443: reset\ufffd[2J" {
		t.Errorf("%q, then %q", a, b)
	}
}
