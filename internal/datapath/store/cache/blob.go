package cache

import (
	"context"
	"errors"
	"hash"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/d8-registry/registry/internal/datapath/fetch"
	"github.com/d8-registry/registry/internal/datapath/store/blob"
	"github.com/d8-registry/registry/internal/datapath/store/fill"
	"github.com/d8-registry/registry/internal/datapath/store/space"
)

// blobHead answers what is here; of what is not the upstreams know.
func (f *front) blobHead(req *http.Request, x *fetch.Exchange) (*http.Response, error) {
	digest := x.Pull.Reference
	size, known := f.fills.Size(digest)
	if known {
		f.room.Used(digest)
		f.cfg.Metrics.answered(x.Pull.Kind, string(fill.Hit))
		return withLength(newResponse(req, x, nil, http.StatusOK, blobHeader(digest)), size), nil
	}
	resp, err := f.past(req, "head")
	if err == nil && resp.StatusCode == http.StatusNotFound {
		f.noteAbsent(x.Pull, x.Route)
	}
	return resp, err
}

// blob answers from the store, and has it filled.
func (f *front) blob(req *http.Request, x *fetch.Exchange) (*http.Response, error) {
	digest, span := x.Pull.Reference, spanOf(req.Header.Get("Range"))
	if _, whole := f.blobs.Stat(digest); !whole && (f.isFull() || f.unfit.Has(time.Now(), digest)) {
		return f.past(req, "full")
	} else if !whole && f.mixed.Has(time.Now(), digest) {
		return f.past(req, "digest")
	} else if !whole && f.unsized.Has(time.Now(), digest) {
		return f.past(req, "size")
	}
	src := &source{front: f, inquiry: inquiryOf(req, x)}
	r, err := f.open(req.Context(), digest, span, src)
	if err != nil {
		return f.unopened(req, x, src, err)
	}
	src.tell(x, r.How())
	f.room.Used(digest)
	f.cfg.Metrics.answered(x.Pull.Kind, string(r.How()))
	from, to, ok := span.of(r.Size())
	if !ok {
		_ = r.Close() // of what was only looked at
		resp := newResponse(req, x, src.server(), http.StatusRequestedRangeNotSatisfiable, blobHeader(digest))
		resp.Header.Set("Content-Range", "bytes */"+strconv.FormatInt(r.Size(), 10))
		return resp, nil
	}
	r.EndAt(to)
	resp := newResponse(req, x, src.server(), http.StatusOK, blobHeader(digest))
	if span.asked {
		resp.StatusCode, resp.Status = http.StatusPartialContent, "206 Partial Content"
		resp.Header.Set("Content-Range", "bytes "+strconv.FormatInt(from, 10)+"-"+strconv.FormatInt(to-1, 10)+"/"+strconv.FormatInt(r.Size(), 10))
	}
	b := &body{front: f, req: req, x: x, r: r, to: to}
	if from == 0 && to == r.Size() && f.mayMix(x, r) {
		b.sum = blob.NewHash(digest)
	}
	resp.Body = b
	return withLength(resp, to-from), nil
}

// open is a reader at the place where a span begins, which may be known only with the size.
func (f *front) open(ctx context.Context, digest string, s span, src fill.Source) (*fill.Reader, error) {
	r, err := f.fills.Open(ctx, digest, max(s.from, 0), src)
	if err != nil || s.last == 0 {
		return r, err
	}
	defer func() { _ = r.Close() }() // after the other one is there, so that the fill is never alone
	return f.fills.Open(ctx, digest, max(r.Size()-s.last, 0), src)
}

// unopened is for a blob that the store does not give: what an upstream said is said to
// everybody who waited for it, and all else goes past the store.
func (f *front) unopened(req *http.Request, x *fetch.Exchange, src fill.Source, err error) (*http.Response, error) {
	var said *answer
	var unserved *fetch.UnservedError
	var whose *refusal
	switch {
	case req.Context().Err() != nil:
		return nil, err
	case errors.As(err, &whose) && whose.key != keyOf(x.Pull, x.Route):
		return f.past(req, "other")
	case errors.As(err, &said) && said.status != http.StatusRequestedRangeNotSatisfiable: // which is about another's range
		if said.status == http.StatusNotFound {
			f.noteAbsent(x.Pull, x.Route)
		}
		f.cfg.Metrics.answered(x.Pull.Kind, "refused")
		return said.response(req, x)
	case errors.As(err, &unserved):
		f.cfg.Metrics.answered(x.Pull.Kind, "refused")
		return nil, unserved
	}
	return f.past(req, f.broke(src, x.Pull.Reference, err))
}

// broke notes why the store does not give a blob, and says it in a word.
func (f *front) broke(src fill.Source, digest string, err error) (reason string) {
	switch {
	case errors.Is(err, blob.ErrDamaged):
		f.cfg.Metrics.corrupt.Inc()
		f.cfg.Log.Error("a blob cannot be read from the disk, and is taken out", "digest", digest, "err", errors.Join(err, f.blobs.RemoveDamaged(err)))
		f.gone(digest)
		return "damaged"
	case errors.Is(err, fill.ErrNoStore):
		if errors.Is(err, space.ErrFull) {
			f.unfit.Note(time.Now(), digest, unfitFor, mostRecent)
		} else {
			f.noteFull()
		}
		f.cfg.Log.Warn("a blob is not stored", "digest", digest, "err", err)
		return "full"
	case errors.Is(err, fill.ErrNoSize): // else it would be asked for twice at each pull
		f.unsized.Note(time.Now(), digest, unfitFor, mostRecent)
		return "size"
	case fill.Contradicts(err):
		f.blame(src, digest, err)
	}
	return "fill"
}

func blobHeader(digest string) http.Header {
	return http.Header{
		"Accept-Ranges": {"bytes"}, "Content-Type": {"application/octet-stream"},
		"Docker-Content-Digest": {digest}, "Etag": {`"` + digest + `"`},
	}
}

func withLength(resp *http.Response, n int64) *http.Response {
	resp.ContentLength = n
	resp.Header.Set("Content-Length", strconv.FormatInt(n, 10))
	return resp
}

// span is what a client wants of a blob, by the only header of Range that gets here.
type span struct {
	asked      bool
	from, last int64 // last: so many before the end
	to         int64 // below 0: to the end
}

func spanOf(header string) span {
	m := oneRange.FindStringSubmatch(header)
	if m == nil {
		return span{to: -1}
	}
	number := func(s string, none int64) int64 {
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil {
			return none // there is none: 18 digits always are one
		}
		return n
	}
	return span{asked: true, from: number(m[1], 0), last: number(m[3], 0), to: number(m[2], -2) + 1}
}

// of is the part of a blob of that size; ok is false when there is no such part.
func (s span) of(size int64) (from, to int64, ok bool) {
	from, to = s.from, s.to
	if to < 0 || to > size {
		to = size
	}
	if s.last > 0 {
		from = max(size-s.last, 0)
	}
	return from, to, !s.asked || from < to
}

// body is a blob on its way to a client: from the store, and past it if that breaks.
type body struct {
	*front
	req    *http.Request
	x      *fetch.Exchange
	r      *fill.Reader
	to     int64
	rest   io.ReadCloser // what comes past the store
	sum    hash.Hash     // of a whole one that several upstreams may give; else nil
	failed error
}

func (b *body) Read(p []byte) (int, error) {
	for b.failed == nil {
		if b.rest != nil {
			n, err := b.rest.Read(p)
			b.cfg.Metrics.served("past", n)
			return n, err //nolint:wrapcheck // it is what it would be without a store
		}
		n, err := b.r.Read(p)
		b.cfg.Metrics.served(string(b.r.How()), n)
		if b.sum != nil {
			_, _ = b.sum.Write(p[:n]) // a hash never fails
		}
		if err == nil || errors.Is(err, io.EOF) {
			return n, err
		}
		b.failed = b.goOn(err)
	}
	b.x.Record.Err = b.failed
	return 0, b.failed
}

func (b *body) Close() error {
	err := b.r.Close()
	if b.rest != nil {
		err = errors.Join(err, b.rest.Close())
	}
	return err
}
