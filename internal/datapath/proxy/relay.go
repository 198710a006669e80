package proxy

import (
	"io"
	"maps"
	"net/http"

	"github.com/d8-registry/registry/internal/datapath/fetch"
)

// relay asks the upstreams and passes on what they answer. Both headers are made anew of
// what a pull needs, so that there is nothing in them to copy or to remove.
type relay struct {
	upstreams http.RoundTripper
	pool      *buffers
}

func (p relay) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	resp, err := p.upstreams.RoundTrip(keepOnlyPullHeaders(r))
	if err == nil {
		defer func() { _ = resp.Body.Close() }()
		err = keepOnlyPullResponse(fetch.From(r.Context()), resp)
	}
	if err != nil {
		noUpstream(w, r, err)
		return
	}
	maps.Copy(w.Header(), resp.Header)
	w.WriteHeader(resp.StatusCode)
	if fetch.From(r.Context()).Pull.IsLayer(r.Method) { // its body may come late, and clients wait for a header so long only
		_ = http.NewResponseController(w).Flush() // an error comes again with the copy
	}
	if err := p.copy(w, resp); err != nil {
		panic(http.ErrAbortHandler) // the client must not take it for the whole
	}
}

// copy sends what comes as it comes: layers are streamed, never collected.
func (p relay) copy(w http.ResponseWriter, resp *http.Response) error {
	buffer := p.pool.Get()
	defer p.pool.Put(buffer)
	flush := http.NewResponseController(w).Flush
	left := resp.ContentLength
	for {
		n, err := resp.Body.Read(buffer)
		if n > 0 {
			if _, err := w.Write(buffer[:n]); err != nil {
				return err
			}
			if left -= int64(n); left != 0 { // else it goes out with the end
				if err := flush(); err != nil {
					return err
				}
			}
		}
		switch {
		case err == io.EOF: // what only has one in it is a body that broke off
			return nil
		case err != nil:
			return err
		}
	}
}
