package cache

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/d8-registry/registry/internal/datapath/fetch"
	"github.com/d8-registry/registry/internal/datapath/judge"
	"github.com/d8-registry/registry/internal/datapath/routes"
	"github.com/d8-registry/registry/internal/datapath/store/blob"
	"github.com/d8-registry/registry/internal/datapath/store/fill"
)

// mostGiven bounds for how many digests it is remembered who gave of them.
const mostGiven = 1024

// errEncoded is a blob in another form than its digest is of.
var errEncoded = errors.New("the upstream's answer is encoded")

// source has the upstreams of a route give the bytes of a blob.
type source struct {
	*front
	inquiry inquiry

	mu     sync.Mutex
	record fetch.Record
	served *routes.Target
}

// Fetch implements fill.Source.
func (s *source) Fetch(ctx context.Context, from, to int64) (fill.Answer, error) {
	req, x := s.inquiry.request(ctx, http.MethodGet, spanHeader(from, to))
	resp, err := s.next.RoundTrip(req) //nolint:bodyclose // the fill closes it, or collect does
	s.note(x)
	if err != nil {
		return fill.Answer{}, s.refused(fmt.Errorf("fetch %s: %w", s.inquiry.pull.Reference, err))
	}
	part, ok := judge.PartOf(resp)
	if ok {
		return fill.Answer{Body: resp.Body, From: part.At, Size: part.Total}, nil
	}
	said := collect(resp, nil, x)
	if said.err != nil || said.status < http.StatusBadRequest {
		return fill.Answer{}, fmt.Errorf("fetch %s: %d: %w", s.inquiry.pull.Reference, said.status, cmp.Or(said.err, errEncoded))
	}
	if said.status == http.StatusRequestedRangeNotSatisfiable {
		return fill.Answer{}, s.refused(fmt.Errorf("%w: %w", fill.ErrRange, said))
	}
	return fill.Answer{}, s.refused(said)
}

// refusal is why there is no blob for a pull from the upstreams of one route. It says nothing
// about other repositories and registries: who waits for the same blob of another one asks there.
type refusal struct {
	key string // see keyOf
	error
}

func (r *refusal) Unwrap() error { return r.error }

func (s *source) refused(err error) error {
	return &refusal{keyOf(s.inquiry.pull, s.inquiry.route), err}
}

// spanHeader is a Range from one place to before another; "" for all: some servers know none.
func spanHeader(from, to int64) string {
	switch {
	case from == 0 && to < 0:
		return ""
	case to < 0:
		return "bytes=" + strconv.FormatInt(from, 10) + "-"
	}
	return "bytes=" + strconv.FormatInt(from, 10) + "-" + strconv.FormatInt(to-1, 10)
}

func (s *source) note(x *fetch.Exchange) {
	s.mu.Lock()
	s.record.Upstream, s.served = x.Record.Upstream, x.Served
	s.record.Attempts += x.Record.Attempts
	s.mu.Unlock()
	if x.Served == nil {
		return
	}
	digest := s.inquiry.pull.Reference
	s.front.mu.Lock()
	defer s.front.mu.Unlock()
	if _, known := s.given[digest]; !known && len(s.given) >= mostGiven {
		clear(s.given)
	}
	if !slices.Contains(s.given[digest], x.Served) {
		s.given[digest] = append(s.given[digest], x.Served)
	}
}

// tell notes who was asked in the record of the client that this was for.
func (s *source) tell(x *fetch.Exchange, how fill.How) {
	if how != fill.Began {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	x.Record.Upstream, x.Record.Attempts = s.record.Upstream, x.Record.Attempts+s.record.Attempts
}

func (s *source) server() *routes.Target {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.served
}

// blame notes who gave bytes of another digest, so that it is asked last for that one. Where
// several gave of them nobody knows who it was: for a while such a blob goes past the store,
// where it comes from one upstream and is verified on its way.
func (f *front) blame(digest string) {
	f.mu.Lock()
	who, left := f.given[digest], f.left[digest]
	delete(f.given, digest)
	delete(f.left, digest)
	f.mu.Unlock()
	known := func(t *routes.Target) bool { return t.Corrupt.Has(time.Now(), digest) } // see package fetch
	switch {
	case len(who) == 0: // somebody else has noted it, or what an earlier process left was all
		return
	case slices.ContainsFunc(who, known):
	case len(who) == 1 && !left:
		who[0].Corrupt.Note(time.Now(), digest)
		who[0].Streak.Note(time.Now(), judge.WrongDigest, "gave other bytes than their digest says")
	default:
		f.mixed.note(digest, distrusted)
	}
	f.cfg.Metrics.corrupt.Inc()
	for _, t := range who {
		f.cfg.Log.Warn("an upstream gave bytes of which the digest is another one", "upstream", t.Host(), "digest", digest, "upstreams", len(who))
	}
}

// goOn has what is missing of a body come past the store. Bytes of a wrong digest are not
// gone on with: a client that has some of them would have a whole blob that is wrong.
func (b *body) goOn(why error) error {
	at := b.r.At()
	reason := b.broke(b.x.Pull.Reference, why)
	if b.req.Context().Err() != nil || errors.Is(why, blob.ErrDigest) {
		return why
	}
	b.cfg.Metrics.past(reason)
	b.x.Record.Resumed++
	i := inquiryOf(b.req, b.x)
	req, x := i.request(b.req.Context(), http.MethodGet, spanHeader(at, b.to))
	x.Record = b.x.Record
	resp, err := b.next.RoundTrip(req)
	if err != nil {
		return errors.Join(why, err)
	}
	part, ok := judge.PartOf(resp)
	if !ok || part.At > at || part.Total >= 0 && part.Total != b.r.Size() {
		_ = resp.Body.Close()
		return fmt.Errorf("%w; past the store: %s, and it has other bytes", why, resp.Status)
	}
	if _, err := io.CopyN(io.Discard, resp.Body, at-part.At); err != nil {
		_ = resp.Body.Close()
		return errors.Join(why, err)
	}
	b.x.Served = x.Served
	b.rest = limited{io.LimitReader(resp.Body, b.to-at), resp.Body}
	return nil
}

type limited struct {
	io.Reader
	io.Closer
}
