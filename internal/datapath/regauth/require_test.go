package regauth

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func hash(password string) string {
	sum := sha256.Sum256([]byte(password))
	return hex.EncodeToString(sum[:])
}

func TestRequire(t *testing.T) {
	t.Parallel()
	users, err := NewUsers([]User{
		{Name: "ro", SHA256: hash("new"), Role: RoleClient}, {Name: "ro", SHA256: hash("old"), Role: RoleClient}, {Name: "node", SHA256: hash("n"), Role: RoleNode},
	})
	if err != nil {
		t.Fatal(err)
	}
	h := Require(func() *Users { return users }, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		u, ok := UserFrom(r.Context())
		_, _ = fmt.Fprintf(w, "%s %s %v old=%v", u.Name, u.Role, ok, u.Old)
	}))
	for _, tc := range []struct{ name, password, want string }{
		{"ro", "old", "ro client true old=true"}, {"ro", "new", "ro client true old=false"}, {"node", "n", "node node true old=false"},
		{"ro", "n", ""}, {"node", "new", ""}, {"", "", ""}, {"nobody", "old", ""}, {"ro", "", ""}, {"ro", hash("old"), ""},
	} {
		req := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/v2/", nil)
		if tc.name != "" {
			req.SetBasicAuth(tc.name, tc.password)
		}
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, req)
		resp := rec.Result()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		if tc.want != "" && (resp.StatusCode != 200 || string(body) != tc.want) {
			t.Errorf("%s/%s: %d %s", tc.name, tc.password, resp.StatusCode, body)
		}
		if tc.want == "" && (resp.StatusCode != 401 || !strings.HasPrefix(resp.Header.Get("WWW-Authenticate"), "Basic realm=") || !strings.Contains(string(body), "UNAUTHORIZED")) {
			t.Errorf("%s/%s: %d %v %s", tc.name, tc.password, resp.StatusCode, resp.Header, body)
		}
	}
}

func TestWithoutUsersNobodyPasses(t *testing.T) {
	t.Parallel()
	var none *Users
	if _, ok := none.Verify("", ""); ok {
		t.Error("nil users let somebody pass")
	}
	empty, err := NewUsers(nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := empty.Verify("", ""); ok {
		t.Error("empty users let somebody pass")
	}
}

func TestUsersThatAreRefused(t *testing.T) {
	t.Parallel()
	for _, user := range []User{
		{}, {Name: "a"}, {SHA256: hash("x"), Role: RoleNode}, {Name: "a", SHA256: "zz", Role: RoleNode}, {Name: "a", SHA256: hash("x")[:62], Role: RoleNode}, {Name: "a", SHA256: hash("x"), Role: "admin"},
	} {
		if _, err := NewUsers([]User{user}); err == nil {
			t.Errorf("%+v: no error", user)
		}
	}
}

func TestParseUsers(t *testing.T) {
	t.Parallel()
	good := fmt.Sprintf("- {name: ro, sha256: %s, role: client}\n- name: node\n  sha256: %s\n  role: node\n", hash("a"), hash("b"))
	users, err := ParseUsers([]byte(good))
	if err != nil {
		t.Fatal(err)
	}
	if u, ok := users.Verify("node", "b"); !ok || u.Role != RoleNode {
		t.Errorf("%+v %v", u, ok)
	}
	if users, err := ParseUsers(nil); err != nil || len(users.entries) != 0 {
		t.Errorf("empty: %v", err)
	}
	for _, text := range []string{"{", "name: a", "- {name: a, sha256: hunter2-secret, role: node}", "- {name: a, sha256: " + hash("x") + ", role: node, hunter2-secret: x}"} {
		if _, err := ParseUsers([]byte(text)); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", text, err)
		}
	}
}
