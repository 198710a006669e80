package front

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/d8-registry/registry/internal/datapath/front/fronttest"
	"github.com/d8-registry/registry/internal/datapath/regauth"
)

func TestOnlyClientsCountAsUse(t *testing.T) {
	t.Parallel()
	users, err := regauth.NewUsers([]regauth.User{
		{Name: "ro", SHA256: fronttest.Sum("a"), Role: regauth.RoleClient}, {Name: "node", SHA256: fronttest.Sum("b"), Role: regauth.RoleNode},
	})
	if err != nil {
		t.Fatal(err)
	}
	now := time.Unix(1_800_000_000, 0)
	u := NewUsage(func() time.Time { return now })
	h := regauth.Require(func() *regauth.Users { return users }, u.Counted(http.NotFoundHandler()))
	ask := func(name, password string) {
		req := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/v2/", nil)
		req.SetBasicAuth(name, password)
		req.RemoteAddr = "10.1.2.3:4567"
		h.ServeHTTP(httptest.NewRecorder(), req)
	}
	ask("node", "b")
	ask("ro", "wrong")
	if at, clients := u.Latest(); !at.IsZero() || clients != "" {
		t.Fatalf("%s %q", at, clients)
	}
	ask("ro", "a")
	if at, clients := u.Latest(); !at.Equal(now) || clients != "10.1.2.3" {
		t.Fatalf("%s %q", at, clients)
	}
}

func TestClientsAreBoundedAndForgotten(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_800_000_000, 0)
	u := NewUsage(func() time.Time { return now })
	for i := range 50 {
		now = now.Add(time.Second)
		u.Note(fmt.Sprintf("10.0.0.%d:1", i))()
	}
	if _, clients := u.Latest(); strings.Count(clients, ",") != maxClients-1 || !strings.Contains(clients, "10.0.0.49") || strings.Contains(clients, "10.0.0.39,") {
		t.Errorf("clients %s", clients)
	}
	now = now.Add(time.Hour)
	u.Note("10.0.0.1:1")()
	if _, clients := u.Latest(); clients != "10.0.0.1" {
		t.Errorf("clients %s", clients)
	}
}

// A download that takes an hour is a use for all of that time.
func TestRequestsUnderWayAreUse(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_800_000_000, 0)
	u := NewUsage(func() time.Time { return now })
	first, second := u.Note("10.0.0.1:1"), u.Note("10.0.0.1:2")
	now = now.Add(time.Hour)
	if at, clients := u.Latest(); !at.Equal(now) || clients != "10.0.0.1" || !u.Busy() {
		t.Errorf("under way: %s %q", at, clients)
	}
	now = now.Add(time.Minute)
	first()
	now = now.Add(time.Minute)
	if at, _ := u.Latest(); !at.Equal(now) {
		t.Errorf("one of two: %s", at)
	}
	<-u.Used
	second()
	select {
	case <-u.Used:
	default:
		t.Error("the end is not reported")
	}
	end := now
	now = now.Add(time.Hour)
	if at, _ := u.Latest(); !at.Equal(end) || u.Busy() {
		t.Errorf("after the end: %s, want %s", at, end)
	}
}
