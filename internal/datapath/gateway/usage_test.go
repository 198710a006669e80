package gateway

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/d8-registry/registry/internal/datapath/regauth"
)

func TestOnlyClientsCountAsUse(t *testing.T) {
	t.Parallel()
	users, err := regauth.NewUsers([]regauth.User{
		{Name: "ro", SHA256: sum("a"), Role: regauth.RoleClient}, {Name: "node", SHA256: sum("b"), Role: regauth.RoleNode},
	})
	if err != nil {
		t.Fatal(err)
	}
	now := time.Unix(1_800_000_000, 0)
	u := newUsage(func() time.Time { return now })
	h := regauth.Require(func() *regauth.Users { return users }, u.counted(http.NotFoundHandler()))
	ask := func(name, password string) {
		req := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/v2/", nil)
		req.SetBasicAuth(name, password)
		req.RemoteAddr = "10.1.2.3:4567"
		h.ServeHTTP(httptest.NewRecorder(), req)
	}
	ask("node", "b")
	ask("ro", "wrong")
	if at, clients := u.latest(); !at.IsZero() || clients != "" {
		t.Fatalf("%s %q", at, clients)
	}
	ask("ro", "a")
	if at, clients := u.latest(); !at.Equal(now) || clients != "10.1.2.3" {
		t.Fatalf("%s %q", at, clients)
	}
}

func TestClientsAreBoundedAndForgotten(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_800_000_000, 0)
	u := newUsage(func() time.Time { return now })
	for i := range 50 {
		now = now.Add(time.Second)
		u.note(fmt.Sprintf("10.0.0.%d:1", i))()
	}
	if _, clients := u.latest(); strings.Count(clients, ",") != maxClients-1 || !strings.Contains(clients, "10.0.0.49") || strings.Contains(clients, "10.0.0.39,") {
		t.Errorf("clients %s", clients)
	}
	now = now.Add(time.Hour)
	u.note("10.0.0.1:1")()
	if _, clients := u.latest(); clients != "10.0.0.1" {
		t.Errorf("clients %s", clients)
	}
}

// A download that takes an hour is a use for all of that time.
func TestRequestsUnderWayAreUse(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_800_000_000, 0)
	u := newUsage(func() time.Time { return now })
	first, second := u.note("10.0.0.1:1"), u.note("10.0.0.1:2")
	now = now.Add(time.Hour)
	if at, clients := u.latest(); !at.Equal(now) || clients != "10.0.0.1" || !u.busy() {
		t.Errorf("under way: %s %q", at, clients)
	}
	now = now.Add(time.Minute)
	first()
	now = now.Add(time.Minute)
	if at, _ := u.latest(); !at.Equal(now) {
		t.Errorf("one of two: %s", at)
	}
	<-u.used
	second()
	select {
	case <-u.used:
	default:
		t.Error("the end is not reported")
	}
	end := now
	now = now.Add(time.Hour)
	if at, _ := u.latest(); !at.Equal(end) || u.busy() {
		t.Errorf("after the end: %s, want %s", at, end)
	}
}
