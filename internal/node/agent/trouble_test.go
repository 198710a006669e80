package agent

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	registryv1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/node/handoff"
	"github.com/d8-registry/registry/internal/upstream"
)

// TestBrief: every attempt has a new port, time or nonce; the words for it are
// the same.
func TestBrief(t *testing.T) {
	t.Parallel()
	get := func(port int, err error) error {
		return fmt.Errorf("reach b.example.com: %w", &url.Error{Op: "Get", URL: fmt.Sprintf("https://x/%d", port), Err: err})
	}
	tcp := func(port int) net.Addr { return &net.TCPAddr{IP: net.IPv4(10, 0, 0, 5), Port: port} }
	for want, attempt := range map[string]func(port int) error{
		"dial: connection refused": func(port int) error {
			return get(port, &net.OpError{Op: "dial", Net: "tcp", Source: tcp(port), Addr: tcp(443), Err: syscall.ECONNREFUSED})
		},
		"dial: i/o timeout": func(port int) error {
			return get(port, &net.OpError{Op: "proxyconnect", Net: "tcp", Err: &net.OpError{Op: "dial", Source: tcp(port), Err: errors.New("i/o timeout")}})
		},
		"read: connection reset by peer": func(port int) error {
			return get(port, &net.OpError{Op: "read", Net: "tcp", Source: tcp(port), Addr: tcp(443), Err: syscall.ECONNRESET})
		},
		"look up b.example.com: DNS does not answer": func(port int) error {
			return get(port, &net.OpError{Op: "dial", Err: &net.DNSError{
				Name: "b.example.com", IsTimeout: true, Err: fmt.Sprintf("read udp 10.0.0.5:%d->10.0.0.2:53: i/o timeout", port),
			}})
		},
		"look up b.example.com: no such host": func(int) error {
			return &net.DNSError{Name: "b.example.com", IsNotFound: true, Err: "no such host"}
		},
		"look up b.example.com: DNS failed": func(port int) error {
			return &net.DNSError{Name: "b.example.com", Err: fmt.Sprintf("read udp 10.0.0.5:%d->10.0.0.2:53: refused", port)}
		},
		"the certificate has expired or is not valid yet": func(port int) error {
			return get(port, x509.CertificateInvalidError{Reason: x509.Expired, Detail: time.Unix(int64(port), 0).String()})
		},
		"read tcp 10.0.0.7:443: strange": func(port int) error {
			return get(port, fmt.Errorf("read tcp 10.0.0.5:%d->10.0.0.7:443: strange", port))
		},
		"EOF": func(port int) error { return get(port, errors.New("EOF")) },
		"reach b.example.com: 502 Bad Gateway": func(int) error {
			return errors.New("reach b.example.com: 502 Bad Gateway")
		},
	} {
		for _, port := range []int{40312, 51234} {
			if got := brief(attempt(port)); got != want {
				t.Errorf("%q, want %q", got, want)
			}
		}
	}
}

// TestQuestionsWithoutAnswerAreNoProof: serve starts again in the middle of a
// proof. Only a pull that went elsewhere takes the report back at once.
func TestQuestionsWithoutAnswerAreNoProof(t *testing.T) {
	t.Parallel()
	now := time.Now()
	a := agentAt(&now)
	a.standing = standing{generation: 5}
	doubt := func(relied bool, err error) *view {
		v := &view{}
		a.doubt(t.Context(), v, relied, err)
		return v
	}
	refused := errors.New("connection refused")
	if doubt(false, errNotSeen); a.standing.generation != 5 {
		t.Error("a name that nobody relied on")
	}
	if v := doubt(true, refused); a.standing.generation != 5 || !v.hold {
		t.Errorf("no answer: %+v, %+v", a.standing, v)
	}
	now = now.Add(patience)
	if v := doubt(true, refused); a.standing.generation != 0 || v.hold {
		t.Errorf("no answer for long: %+v, %+v", a.standing, v)
	}
	a.standing = standing{generation: 5}
	delete(a.since, "proof")
	if v := doubt(true, fmt.Errorf("x: %w", errNotSeen)); a.standing.generation != 0 || v.hold {
		t.Errorf("went elsewhere: %+v, %+v", a.standing, v)
	}
}

// stubborn is a containerd that answers as it is told and hangs when it is to
// remove something.
type stubborn struct{ err error }

func (s stubborn) PullImage(context.Context, string) (string, error) { return "id", s.err }

func (s stubborn) RemoveImage(ctx context.Context, _ string) error {
	<-ctx.Done()
	return ctx.Err()
}

func TestWhatContainerdSaid(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		err  error
		want string
	}{
		"not found":     {status.Error(codes.NotFound, "x"), errNotSeen.Error()},
		"no CRI images": {fmt.Errorf("pull: %w", status.Error(codes.Unimplemented, "unknown service SECRET")), "are both set"},
		"no such host":  {fmt.Errorf("pull: %w", status.Error(codes.Unknown, "failed SECRET")), errNotSeen.Error()},
		"another error": {fmt.Errorf("pull: %w", status.Error(codes.Internal, "failed SECRET")), "Internal"},
		"called off":    {status.Error(codes.Canceled, "x"), "does not end the pull"},
		"it has it":     {nil, errNotSeen.Error()},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newProofs(stubborn{row.err}, time.Hour)
				serve := &redirected{pending: map[string]layout.Name{}, arrived: make(chan string, 1)}
				began := time.Now()
				err := p.prove(t.Context(), serve, layout.Fixed(), asked{"run", anybody}, "content", "nonce")
				if !errors.Is(err, errNotSeen) || !strings.HasSuffix(err.Error(), row.want) || strings.Contains(err.Error(), "SECRET") {
					t.Errorf("%v, want %q", err, row.want)
				}
				if time.Since(began) > pullTime+removeTime {
					t.Error("it waited for containerd to remove an image")
				}
			})
		})
	}
}

// TestDiskAndServeDiffer: for a moment that is a new layout, later it is told.
func TestDiskAndServeDiffer(t *testing.T) {
	t.Parallel()
	folder, err := handoff.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	target := upstream.Upstream{Host: "a.example.com", Scheme: upstream.HTTPS}
	data, err := layout.Encode(layout.Layout{
		Schema: layout.Schema, Generation: 6, Mode: "Direct", Active: target, Target: target,
		Routes: layout.Cross([]layout.Name{layout.Fixed()}, []upstream.Upstream{target}),
	})
	if err == nil {
		err = folder.SaveLayout(data)
	}
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	a := agentAt(&now)
	a.folder = folder
	a.serving.Store(&served{status: handoff.Status{Generation: 5}})
	v := &view{}
	if a.lookAtServe(v); !v.hold || len(v.problems) > 0 {
		t.Errorf("at once: %+v", v)
	}
	now = now.Add(patience)
	v = &view{}
	if a.lookAtServe(v); v.hold || len(v.problems) != 1 {
		t.Errorf("for long: %+v", v)
	}
}

// TestLegacyOrder is who obeys the order back to the legacy format.
func TestLegacyOrder(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		order     bool
		published bool
		spec      int64
		mode      string
		saved     int64
		want      bool
	}{
		"Unmanaged and ordered":             {order: true, mode: "Unmanaged", saved: 5, want: true},
		"of the very generation":            {order: true, spec: 5, mode: "Unmanaged", saved: 5, want: true},
		"not ordered":                       {mode: "Unmanaged", saved: 5},
		"something is published":            {order: true, published: true, mode: "Unmanaged", saved: 5},
		"Direct":                            {order: true, mode: "Direct", saved: 5},
		"Direct, of that generation":        {order: true, spec: 5, mode: "Direct", saved: 5},
		"Direct, but it was away":           {order: true, spec: 7, mode: "Direct", saved: 5, want: true},
		"an order older than the layout":    {order: true, spec: 4, mode: "Unmanaged", saved: 5},
		"an order older than Direct's":      {order: true, spec: 4, mode: "Direct", saved: 5},
		"away, and something was published": {order: true, published: true, spec: 7, mode: "Direct", saved: 5},
	} {
		own := &registryv1alpha1.RegistryNode{Spec: registryv1alpha1.RegistryNodeSpec{Legacy: row.order, Generation: row.spec}}
		l := layout.Layout{Mode: row.mode, Generation: row.saved}
		if got := legacy(own, l, handoff.Status{Absent: !row.published, Generation: row.saved}); got != row.want {
			t.Errorf("%s: %t, want %t", name, got, row.want)
		}
	}
	if legacy(nil, layout.Layout{Mode: "Unmanaged"}, handoff.Status{Absent: true}) {
		t.Error("obeyed without a RegistryNode")
	}
}
