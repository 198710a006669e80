package proxy

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/d8-registry/registry/internal/datapath/fetch"
	"github.com/d8-registry/registry/internal/datapath/judge"
	"github.com/d8-registry/registry/internal/datapath/oci"
)

// noUpstream answers when no upstream served, by the table in package judge. Never 401
// or 403: those would blame the client.
func noUpstream(w http.ResponseWriter, r *http.Request, err error) {
	fetch.From(r.Context()).Record.Err = err
	if errors.Is(r.Context().Err(), context.Canceled) {
		return // nobody is there to read it, see logged
	}
	status, code := http.StatusBadGateway, oci.CodeUnavailable
	entry := oci.ErrorEntry{Message: "no upstream could serve this: " + err.Error()}
	var unserved *fetch.UnservedError
	if errors.As(err, &unserved) {
		outcome := unserved.Outcome()
		if status = outcome.Status(); outcome == judge.RateLimited {
			code = oci.CodeTooManyRequests
		}
		if wait := unserved.Wait(); wait > 0 {
			w.Header().Set("Retry-After", strconv.Itoa(int((wait+time.Second-1)/time.Second)))
		}
		entry.Detail = unserved.Reasons()
	}
	entry.Code = code
	oci.ErrorBody{Errors: []oci.ErrorEntry{entry}}.Write(w, r, status)
}
