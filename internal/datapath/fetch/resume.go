package fetch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httputil"
	"strconv"
	"time"

	"github.com/d8-registry/registry/internal/datapath/answer"
	"github.com/d8-registry/registry/internal/datapath/judge"
	"github.com/d8-registry/registry/internal/datapath/oci"
	"github.com/d8-registry/registry/internal/datapath/routes"
)

// resume continues a body that broke or went silent, with Range, from the next
// upstream. It does so only where a digest says that the bytes are the same;
// they are verified by the client, and where there are several upstreams here, see
// answer.Verified.
type resume struct {
	next failover
	pool httputil.BufferPool
}

func (r resume) RoundTrip(req *http.Request) (*http.Response, error) {
	first, err := r.next.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	// A copy: what comes after the body goes into the answer that was read from the
	// upstream, and with it would pass all allow-lists.
	copied := *first
	resp := &copied
	resp.Trailer = nil
	if req.Method != http.MethodGet {
		return resp, nil
	}
	x := From(req.Context())
	digest, known := x.Pull.DigestOf(resp)
	part, ok := judge.PartOf(resp)
	if !known || !ok || r.next.promises.noResume {
		return resp, nil
	}
	resumed := &resumedBody{next: r.next, req: req, exchange: pinned(x, digest), body: limited(resp.Body, part.At, part.End), part: part, piece: part.End}
	resp.Body = resumed
	if x.Pull.Kind == oci.KindBlobs && resp.StatusCode == http.StatusOK && !x.proved && x.others() {
		resp.Body = answer.Verified(resumed, part.End, digest, r.pool, resumed.wrongBytes)
	}
	return resp, nil
}

// backoffs are how long to wait before all upstreams are asked once more. A
// registry that restarts is back within seconds, and a client in the middle of a
// body can wait that long. After the last it is time to give up.
func backoffs() []time.Duration {
	return []time.Duration{200 * time.Millisecond, 500 * time.Millisecond, time.Second, 2 * time.Second, 4 * time.Second}
}

// pinned is the exchange for the rest of a pull: the same, but by digest also
// if the client asked for a tag.
func pinned(x *Exchange, digest string) *Exchange {
	rest := *x
	rest.Pull.Reference, rest.begun = digest, true
	return &rest
}

// resumedBody reads as one body what may come in several pieces.
type resumedBody struct {
	next     failover
	req      *http.Request
	exchange *Exchange
	body     io.ReadCloser
	part     judge.Part       // what is still to come
	piece    int64            // where the body of the moment ends, if it is whole; -1 when unknown
	tried    int              // continuations since the last byte
	rounds   int              // how often since then all upstreams were asked
	mixed    bool             // more than one upstream gave of it
	stores   []*routes.Target // that gave of it

	// left is when the last Read returned, and away how long the client took between
	// the Reads of this piece.
	left time.Time
	away time.Duration
}

func (b *resumedBody) Read(p []byte) (int, error) {
	if !b.left.IsZero() {
		b.away += time.Since(b.left)
	}
	n, err := b.read(p)
	b.left = time.Now()
	return n, err
}

func (b *resumedBody) read(p []byte) (int, error) {
	for {
		n, err := b.body.Read(p)
		b.part.At += int64(n)
		if n > 0 {
			b.tried, b.rounds = 0, 0
			if errors.Is(err, io.EOF) && b.complete() {
				return n, io.EOF
			}
			return n, nil // an error comes again with the next Read
		}
		switch {
		case err == nil:
			return 0, nil
		case errors.Is(err, io.EOF) && b.complete():
			return 0, io.EOF
		case b.req.Context().Err() != nil:
			return 0, fmt.Errorf("client gone: %w", context.Cause(b.req.Context()))
		}
		if err := b.continueBody(err); err != nil {
			b.exchange.Record.Err = err
			return 0, err
		}
	}
}

func (b *resumedBody) complete() bool { return b.part.End < 0 || b.part.At >= b.part.End }

func (b *resumedBody) Close() error { return b.body.Close() }

// continueBody replaces the body with one that goes on where the last one ended. Large
// layers outlive credentials that are given for a while: the rest is asked for with those
// of now.
func (b *resumedBody) continueBody(why error) error {
	x := b.exchange
	_ = b.body.Close() // it is broken already
	b.body = http.NoBody
	if b.heldBack(why) {
		return b.wrongBytes()
	}
	b.blame(why)
	before := x.Served
	if before.IsStore() {
		b.stores = append(b.stores, before)
	}
	var last error
	for b.mayTryAgain() {
		x.Route = x.Route.Current()
		b.tried++
		x.Record.Resumed++
		b.next.metrics.Resumed()
		resp, err := b.next.RoundTrip(b.remainingRequest())
		if err != nil {
			b.tried = max(b.tried, len(x.Route.Targets)) // it has asked them all
		} else if err = b.takeOver(resp); err == nil {
			if x.Served.Server != before.Server {
				b.mixed = true
				x.joins()
			}
			return nil
		}
		last = err // not all: a long outage has many
		x.broken = x.Served
	}
	return fmt.Errorf("body of %s ended at byte %d: %w", x.Pull.Reference, b.part.At, oci.NotTheEnd(errors.Join(why, last)))
}

// blame notes that the upstream broke the body, unless it is not to blame: it may
// have sent all that it said it would, or given up a client that takes its time. Others
// must not wait for that client. A store that ends a body is there and costs the next pull
// no time: it passes on what a registry did, and who passes it by has that fetched again.
func (b *resumedBody) blame(why error) {
	x := b.exchange
	if errors.Is(why, io.EOF) && b.part.At == b.piece {
		return
	}
	x.broken = x.Served
	if errors.Is(why, errNoAnswer) || b.away < b.next.stall && !x.Served.IsStore() {
		x.Served.Health.Failed(time.Now(), b.next.probe, x.Pull.Kind == oci.KindBlobs)
	}
}

// wrongBytes notes who gave a whole blob that has another digest.
func (b *resumedBody) wrongBytes() error {
	x := b.exchange
	from, digest := x.Served, x.Pull.Reference
	who := from.Host()
	if b.mixed { // whose bytes are wrong is not known, and it may be the only one that has them; a store never is
		who = "several upstreams, at last " + who
		b.distrust()
	} else {
		from.Corrupt.Note(time.Now(), digest)
		b.next.note(from, judge.WrongDigest, "gave other bytes than their digest says")
	}
	err := judge.Errorf(judge.WrongDigest, "%s: the bytes of %s have another digest", who, digest)
	x.Record.Err = err
	return err
}

// heldBack reports whether a store ended the body before the last byte of all: so it says that the
// digest is wrong. With that byte from another one the client would have a whole of wrong bytes.
// One that is silent there says nothing: it may be gone.
func (b *resumedBody) heldBack(why error) bool {
	return b.exchange.Served.IsStore() && b.part.At > 0 && b.part.At == b.part.Total-1 && !errors.Is(why, errNoAnswer)
}

// distrust notes the stores that gave of it: the next pulls ask others first, and it shows whose the
// fault is.
func (b *resumedBody) distrust() {
	routes.NoteStores(append(b.stores, b.exchange.Served), time.Now(), b.exchange.Pull.Reference)
}

// mayTryAgain waits until the next try is due, and reports whether there is one.
// It is due at once while some upstream was not tried since the last byte, then
// after a backoff. There is none when the backoffs are used up or the client has
// gone.
func (b *resumedBody) mayTryAgain() bool {
	if b.tried < len(b.exchange.Route.Targets) {
		return b.req.Context().Err() == nil
	}
	waits := backoffs()
	if b.rounds >= len(waits) {
		return false
	}
	b.rounds++
	select {
	case <-time.After(waits[b.rounds-1]):
		return true
	case <-b.req.Context().Done():
		return false
	}
}

// remainingRequest asks for the bytes that are missing.
func (b *resumedBody) remainingRequest() *http.Request {
	req := b.req.Clone(With(b.req.Context(), b.exchange))
	for _, name := range []string{"If-Range", "If-Match", "If-None-Match", "If-Modified-Since", "If-Unmodified-Since"} {
		req.Header.Del(name)
	}
	req.Header.Set("Range", Range(b.part.At, b.part.End))
	return req
}

// Range is the header that asks for the bytes from one place to before another; -1 is the end of all.
func Range(from, to int64) string {
	span := "bytes=" + strconv.FormatInt(from, 10) + "-"
	if to >= 0 {
		span += strconv.FormatInt(to-1, 10)
	}
	return span
}

// takeOver makes the body of an answer to remainingRequest ours. It may hold less than
// the rest, and then what is missing is asked for again.
func (b *resumedBody) takeOver(resp *http.Response) error {
	got, ok := judge.PartOf(resp)
	part := b.part
	if part.Total < 0 {
		part.Total = got.Total
	}
	if part.End < 0 {
		part.End = part.Total
	}
	body, err := resp.Body, error(nil)
	switch {
	case resp.StatusCode == http.StatusRequestedRangeNotSatisfiable:
		b.distrust() // one of them has said a size that is not true
		err = errors.New(resp.Status)
	case !ok:
		err = errors.New(resp.Status)
	case got.At > b.part.At, got.Total >= 0 && b.part.Total >= 0 && got.Total != b.part.Total:
		b.distrust()
		err = errors.New("it has other bytes")
	case b.part.End < 0 && got.Total < 0 && resp.StatusCode == http.StatusPartialContent:
		err = errors.New("it does not say how many bytes there are")
	default:
		body, err = Span(resp.Body, got.At, part.At, part.End)
	}
	if err != nil {
		_ = resp.Body.Close()
		return fmt.Errorf("%s: cannot continue: %w", b.exchange.Served.Host(), err)
	}
	b.part, b.body, b.piece, b.away = part, body, got.End, 0
	return nil
}

// Span is the bytes from one place to before another of a body that begins at a place before: who
// knows no Range gives the whole, and what is there already is read again. -1 is the end of all.
func Span(body io.ReadCloser, begins, from, to int64) (io.ReadCloser, error) {
	if _, err := io.CopyN(io.Discard, body, from-begins); err != nil {
		return nil, fmt.Errorf("read again up to byte %d: %w", from, err)
	}
	return limited(body, from, to), nil
}

// limited is a body that does not run over its end: registries answer with the whole, and with
// more than they say.
func limited(body io.ReadCloser, from, to int64) io.ReadCloser {
	if to < 0 {
		return body
	}
	return limitedBody{io.LimitReader(body, to-from), body}
}

type limitedBody struct {
	io.Reader
	io.Closer
}
