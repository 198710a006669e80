package proxy

import (
	"io"
	"maps"
	"net/http"
	"strings"

	"github.com/d8-registry/registry/internal/datapath/fetch"
	"github.com/d8-registry/registry/internal/datapath/inbound"
	"github.com/d8-registry/registry/internal/datapath/oci"
	"github.com/d8-registry/registry/internal/datapath/routes"
)

// relay asks the upstreams and passes on what they answer. Both headers are made anew of
// what a pull needs, so that there is nothing in them to copy or to remove.
type relay struct {
	upstreams http.RoundTripper
	pool      *buffers
	asked     bool // see Config.Asked
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
	if maps.Copy(w.Header(), resp.Header); p.asked && resp.StatusCode == http.StatusNotFound {
		w.Header().Set(oci.HeaderAsked, placesOf(fetch.From(r.Context()).Route))
	}
	w.WriteHeader(resp.StatusCode)
	if fetch.From(r.Context()).Pull.IsLayer(r.Method) { // its body may come late, and clients wait for a header so long only
		_ = http.NewResponseController(w).Flush() // an error comes again with the copy
	}
	if err := p.copy(w, r, resp); err != nil {
		panic(http.ErrAbortHandler) // the client must not take it for the whole
	}
}

// placesOf names the upstreams of a route.
func placesOf(r routes.Route) string {
	var places []string
	for _, t := range r.Targets {
		places = append(places, t.Place())
	}
	return strings.Join(places, " ")
}

// copy sends what comes as it comes: layers are streamed, never collected.
func (p relay) copy(w http.ResponseWriter, r *http.Request, resp *http.Response) error {
	buffer := p.pool.For(resp.ContentLength)
	defer p.pool.Put(buffer)
	together, flush := inbound.Together(r.Context()), http.NewResponseController(w).Flush
	left := resp.ContentLength
	send := func(n int) error {
		_, err := w.Write(buffer[:n])
		if left -= int64(n); err != nil || left == 0 { // what is left of it goes out with the end
			return err
		}
		return flush()
	}
	for {
		n, err := resp.Body.Read(buffer)
		var failed error
		switch {
		case n > small:
			failed = together(func() error { return send(n) })
		case n > 0:
			failed = send(n)
		}
		if failed != nil {
			return failed
		}
		switch {
		case err == io.EOF: // what only has one in it is a body that broke off
			return nil
		case err != nil:
			return err
		}
	}
}
