package cache

import (
	"context"
	"net/http"
	"regexp"
	"slices"
	"time"

	"github.com/d8-registry/registry/internal/datapath/fetch"
	"github.com/d8-registry/registry/internal/datapath/judge"
	"github.com/d8-registry/registry/internal/datapath/oci"
	"github.com/d8-registry/registry/internal/datapath/routes"
	"github.com/d8-registry/registry/internal/datapath/store/images"
)

// front answers the pulls of exchanges, see fetch.With.
type front struct {
	*Cache
	next http.RoundTripper
}

func (f *front) RoundTrip(req *http.Request) (*http.Response, error) {
	x := fetch.From(req.Context())
	if reason := notOurs(req, x); reason != "" {
		return f.past(req, reason)
	}
	if f.absent.Has(time.Now(), keyOf(x.Pull, x.Route)) {
		f.cfg.Metrics.answered(x.Pull.Kind, "absent")
		return (&answer{status: http.StatusNotFound, header: http.Header{}}).response(req, x)
	}
	switch {
	case x.Pull.Kind == oci.KindBlobs && req.Method == http.MethodHead:
		return f.blobHead(req, x)
	case x.Pull.Kind == oci.KindBlobs:
		return f.blob(req, x)
	case x.Pull.Kind == oci.KindManifests && x.Pull.ByDigest():
		return f.manifest(req, x)
	case x.Pull.Kind == oci.KindManifests:
		return f.tag(req, x)
	default:
		return f.list(req, x)
	}
}

// past asks the upstreams as if there were no cache.
func (f *front) past(req *http.Request, reason string) (*http.Response, error) {
	if a := images.AsideOf(req.Context()); a != nil {
		a.Why = reason
		return (&answer{status: http.StatusServiceUnavailable, header: http.Header{}}).response(req, fetch.From(req.Context()))
	}
	f.cfg.Metrics.Past(reason)
	return f.next.RoundTrip(req)
}

// oneRange is what is served from a store. What is malformed is the upstream's to judge.
var oneRange = regexp.MustCompile(`^bytes=(?:([0-9]{1,18})-([0-9]{0,18})|-([1-9][0-9]{0,17}))$`)

// notOurs says why a pull passes by the cache, "" if it does not. Users' mirrors are theirs:
// what they give is for those who may ask them. A manifest is given as a whole, as most registries
// do: a containerd that fetches layers in parts asks for all of it by a range.
func notOurs(req *http.Request, x *fetch.Exchange) (reason string) {
	conditions := []string{"If-Range", "If-Match", "If-None-Match", "If-Modified-Since", "If-Unmodified-Since"}
	byRange := req.Header.Get("Range") != "" && req.Method == http.MethodGet && x.Pull.Kind != oci.KindManifests
	switch {
	case len(x.Route.Targets) == 0, slices.ContainsFunc(x.Route.Targets, (*routes.Target).OfUser):
		return "mirror"
	case slices.ContainsFunc(conditions, func(name string) bool { return req.Header.Get(name) != "" }):
		return "condition"
	case byRange && (x.Pull.Kind != oci.KindBlobs || len(req.Header.Values("Range")) > 1 || !oneRange.MatchString(req.Header.Get("Range"))):
		return "range"
	case x.Pull.Query != "" && (x.Pull.Kind == oci.KindBlobs || x.Pull.Kind == oci.KindManifests):
		return "query"
	}
	return ""
}

// inquiry is a pull that is made for all who want the same. It outlives the client that was
// the first: nothing of its context is in it, but whether nobody waits.
type inquiry struct {
	pull   oci.Pull
	route  routes.Route
	sample *http.Request // as the first client asked
	aside  *images.Aside // nil for clients
}

func inquiryOf(req *http.Request, x *fetch.Exchange) inquiry {
	return inquiry{x.Pull, x.Route, req, images.AsideOf(req.Context())}
}

// of is the same for another reference.
func (i inquiry) of(reference string) inquiry {
	i.pull.Reference = reference
	return i
}

// request is one to the upstreams with an exchange of its own. Whether a client waits goes along.
func (i inquiry) request(ctx context.Context, method, span string) (*http.Request, *fetch.Exchange) {
	x := &fetch.Exchange{Pull: i.pull, Route: i.route.Current(), Record: &fetch.Record{}}
	if i.aside != nil {
		ctx = i.aside.With(ctx)
	}
	req := i.sample.Clone(fetch.With(ctx, x))
	req.Method, req.Header = method, http.Header{}
	for _, name := range []string{"User-Agent", "Accept-Encoding"} {
		req.Header[name] = i.sample.Header[name]
	}
	if i.pull.Kind == oci.KindManifests {
		req.Header["Accept"] = append(judge.Accept(), "*/*")
	}
	if span != "" {
		req.Header.Set("Range", span)
	}
	return req, x
}

// ask asks the upstreams for what is small.
func (f *front) ask(i inquiry, method string) *answer {
	req, x := i.request(f.ctx, method, "")
	resp, err := f.next.RoundTrip(req) //nolint:bodyclose // collect closes it
	if err == nil {
		f.heard(resp)
	}
	return collect(resp, err, x)
}
