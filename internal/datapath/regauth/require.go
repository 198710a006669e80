package regauth

import (
	"context"
	"net/http"
)

type userKey struct{}

// Require passes a request on to next when its Basic credentials are those of a
// user, and answers 401 with a Basic challenge otherwise. It is Basic because
// stock containerd can only send a static header. users is asked at every
// request, so that a rotation needs no restart.
func Require(users func() *Users, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name, password, ok := r.BasicAuth()
		if ok {
			var user User
			if user, ok = users().Verify(name, password); ok {
				next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), userKey{}, user)))
				return
			}
		}
		h := w.Header()
		h.Set("WWW-Authenticate", `Basic realm="registry", charset="UTF-8"`)
		h.Set("Docker-Distribution-API-Version", "registry/2.0")
		h.Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusUnauthorized)
		if r.Method != http.MethodHead {
			// The client may be gone; nothing can be done about it.
			_, _ = w.Write([]byte(`{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}` + "\n"))
		}
	})
}

// UserFrom is the user that Require found.
func UserFrom(ctx context.Context) (User, bool) {
	u, ok := ctx.Value(userKey{}).(User)
	return u, ok
}
