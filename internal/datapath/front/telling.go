package front

import (
	"net/http"

	"github.com/d8-registry/registry/internal/datapath/oci"
	"github.com/d8-registry/registry/internal/datapath/regauth"
	"github.com/d8-registry/registry/internal/datapath/routes"
)

// telling says to nodes that ask with a pull what is known here of the target of theirs: see
// routes.StandIn. In what they ask there are credentials, hashed: nobody else may try which they are.
func (l *Loaded) telling(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if of := r.Header.Get(oci.HeaderTarget); of != "" {
			if user, ok := regauth.UserFrom(r.Context()); ok && user.Role == regauth.RoleNode {
				l.tell(w.Header(), of)
			}
		}
		next.ServeHTTP(w, r)
	})
}

func (l *Loaded) tell(header http.Header, of string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case !routes.LeadsTo(l.layout, of):
	case l.proof.of == of && l.proof.err == nil && l.table.Failing(l.layout.Target) == "":
		header.Set(oci.HeaderTarget, oci.TargetProved)
	default:
		header.Set(oci.HeaderTarget, oci.TargetKnown)
	}
}
