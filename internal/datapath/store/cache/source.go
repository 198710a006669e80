package cache

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/d8-registry/registry/internal/datapath/fetch"
	"github.com/d8-registry/registry/internal/datapath/judge"
	"github.com/d8-registry/registry/internal/datapath/routes"
	"github.com/d8-registry/registry/internal/datapath/store/blob"
	"github.com/d8-registry/registry/internal/datapath/store/fill"
	"github.com/d8-registry/registry/internal/datapath/store/images"
)

// errEncoded is a blob in another form than its digest is of.
var errEncoded = errors.New("the upstream's answer is encoded")

// source has the upstreams of a route give the bytes of a blob.
type source struct {
	*front
	inquiry inquiry

	mu     sync.Mutex
	record fetch.Record
	served *routes.Target
	givers *givers // of what it gave of; nil as long as it did not
}

// givers are who gave of what came of one blob, by one fill or by several that went on with it.
// The lock of the Cache is theirs.
type givers struct {
	who     []*routes.Target
	unknown bool // an earlier process left a part
	blamed  bool
}

// Fetch implements fill.Source.
func (s *source) Fetch(ctx context.Context, from, to int64) (fill.Answer, error) {
	span := "" // for all: some servers know none
	if from > 0 || to >= 0 {
		span = fetch.Range(from, to)
	}
	req, x := s.inquiry.request(ctx, http.MethodGet, span)
	// A gap is asked of who gave the rest: a store that fetches it anew would have all of it sent once more.
	x.Joined, x.Giver = s.gave, s.server()
	resp, err := s.next.RoundTrip(req) //nolint:bodyclose // the fill closes it, or collect does
	s.note(x)
	if err != nil {
		return fill.Answer{}, s.refused(fmt.Errorf("fetch %s: %w", s.inquiry.pull.Reference, err))
	}
	s.heard(resp)
	part, ok := judge.PartOf(resp)
	if ok {
		s.gave(x.Served)
		return fill.Answer{Body: found{resp.Body}, From: part.At, Size: part.Total}, nil
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

// found is a body whose wrong digest was found on its way here: what came of it is not gone on with.
type found struct{ io.ReadCloser }

func (f found) Read(p []byte) (int, error) {
	n, err := f.ReadCloser.Read(p)
	if wrong := (*judge.Error)(nil); errors.As(err, &wrong) && wrong.Outcome == judge.WrongDigest {
		err = fmt.Errorf("%w: %w", blob.ErrDigest, err)
	}
	return n, err //nolint:wrapcheck // it is the source's own
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

func (s *source) note(x *fetch.Exchange) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.record.Upstream, s.served = x.Record.Upstream, x.Served
	s.record.Attempts += x.Record.Attempts
}

func (s *source) gave(who *routes.Target) {
	s.mu.Lock()
	s.served = who
	s.mu.Unlock()
	digest := s.inquiry.pull.Reference
	s.front.mu.Lock()
	defer s.front.mu.Unlock()
	if s.given[digest] == nil {
		s.given[digest] = &givers{}
	}
	s.givers = s.given[digest]
	if !slices.Contains(s.givers.who, who) {
		s.givers.who = append(s.givers.who, who)
	}
}

// forget is that a fill has ended, or that what was left of one was removed: who gave is known as
// long as there is a part of it, and whoever read it has it from its source.
func (c *Cache) forget(digest string) {
	if _, left := c.blobs.Kept(digest); left {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.given, digest)
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
// where it comes from one upstream and is verified on its way. Who contradict each other are not.
func (f *front) blame(src fill.Source, digest string, why error) {
	s, ok := src.(*source)
	if !ok {
		return // a manifest that was judged
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	g := s.givers
	if g == nil || g.blamed { // what was left was all, or another reader has noted it
		return
	}
	g.blamed = true
	who := g.who
	routes.NoteStores(who, time.Now(), digest)
	switch {
	case !errors.Is(why, blob.ErrDigest):
		return
	case slices.ContainsFunc(who, func(t *routes.Target) bool { return t.Corrupt.Has(time.Now(), digest) }): // see package fetch; a store too
	case len(who) == 1 && !g.unknown:
		who[0].Corrupt.Note(time.Now(), digest)
		who[0].Streak.Note(time.Now(), judge.WrongDigest, "gave other bytes than their digest says")
	default:
		f.mixed.Note(time.Now(), digest, distrusted, mostRecent)
	}
	f.cfg.Metrics.corrupt.Inc()
	for _, t := range who {
		f.cfg.Log.Warn("an upstream gave bytes of which the digest is another one", "upstream", t.Host(), "digest", digest, "upstreams", len(who))
	}
}

// goOn has what is missing of a body come past the store. Bytes of a wrong digest are not
// gone on with: a client that has some of them would have a whole blob that is wrong.
func (b *body) goOn(why error) error {
	if errors.Is(why, blob.ErrDigest) {
		b.blame(b.r.Source(), b.x.Pull.Reference, why)
		return why
	}
	at, reason := b.r.At(), b.broke(b.r.Source(), b.x.Pull.Reference, why)
	if b.req.Context().Err() != nil || images.AsideOf(b.req.Context()) != nil || b.cfg.noWayPast {
		return why
	}
	b.cfg.Metrics.Past(reason)
	b.x.Record.Resumed++
	i := inquiryOf(b.req, b.x)
	req, x := i.request(b.req.Context(), http.MethodGet, fetch.Range(at, b.to))
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
	if b.rest, err = fetch.Span(resp.Body, part.At, at, b.to); err != nil {
		_ = resp.Body.Close()
		return errors.Join(why, err)
	}
	b.x.Served = x.Served
	if b.sum != nil {
		b.rest = &verified{ReadCloser: b.rest, left: b.to - at, body: b}
	}
	return nil
}

// mayMix reports whether a client may get bytes of several upstreams: those of a fill, and of
// its own route if it goes on past the store. Where there is one the client's own check does as
// well, see package answer.
func (f *front) mayMix(x *fetch.Exchange, r *fill.Reader) bool {
	s, comes := r.Source().(*source)
	if !comes || f.cfg.Second != nil && f.cfg.Second(x.Pull.Reference) { // then another store gives too
		return comes
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	g := cmp.Or(f.given[x.Pull.Reference], &givers{}) // also of fills before this one
	all := slices.Concat(x.Route.Targets, s.inquiry.route.Targets, g.who)
	return g.unknown || slices.ContainsFunc(all, func(t *routes.Target) bool { return t.Server != all[0].Server })
}

// verified is the rest of a whole blob, which does not end as one with another digest. Nobody
// knows who gave the wrong bytes, and nobody is blamed.
type verified struct {
	io.ReadCloser
	left int64
	body *body
}

func (v *verified) Read(p []byte) (int, error) {
	n, err := v.ReadCloser.Read(p)
	_, _ = v.body.sum.Write(p[:n]) // a hash never fails
	v.left -= int64(n)
	digest, ends := v.body.x.Pull.Reference, v.left <= 0 || errors.Is(err, io.EOF)
	if !ends || blob.HasDigest(v.body.sum, digest) {
		return n, err //nolint:wrapcheck // it is what it would be without a store
	}
	v.body.cfg.Metrics.corrupt.Inc()
	v.body.x.Record.Err = fmt.Errorf("several upstreams, at last %s: %s: %w", v.body.x.Served.Host(), digest, blob.ErrDigest)
	return 0, v.body.x.Record.Err
}
