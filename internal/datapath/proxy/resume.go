package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"time"
)

// resume continues a body that broke or went silent, with Range, from the next
// upstream. It does so only where a digest says that the bytes are the same;
// the client verifies them, so nothing is collected here.
type resume struct{ next failover }

func (r resume) RoundTrip(req *http.Request) (*http.Response, error) {
	answer, err := r.next.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	// A copy: what comes after the body goes into the answer that was read from the
	// upstream, and with it would pass all allow-lists.
	copied := *answer
	resp := &copied
	resp.Trailer = nil
	if req.Method != http.MethodGet {
		return resp, nil
	}
	x := exchangeFrom(req.Context())
	digest, known := digestOf(x.pull, resp)
	part, ok := partOf(resp)
	if known && ok {
		resp.Body = &resumedBody{next: r.next, req: req, exchange: pinned(x, digest), body: resp.Body, part: part}
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
func pinned(x *exchange, digest string) *exchange {
	rest := *x
	rest.pull.Reference = digest
	return &rest
}

// digestOf is what the body must be; ok is false where nothing says so.
func digestOf(pull Pull, resp *http.Response) (string, bool) {
	switch {
	case pull.Kind != KindBlobs && pull.Kind != KindManifests:
		return "", false
	case pull.byDigest():
		return pull.Reference, true
	default:
		said := resp.Header.Get("Docker-Content-Digest")
		return said, digestPattern.MatchString(said)
	}
}

// part is which bytes of the whole a body holds.
type part struct {
	at    int64 // the next one to come
	end   int64 // one past the last; -1 when unknown
	total int64 // of the whole; -1 when unknown
}

var contentRange = regexp.MustCompile(`^bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18}|\*)$`)

// partOf understands 200 and a 206 of one range.
func partOf(resp *http.Response) (part, bool) {
	if e := resp.Header.Get("Content-Encoding"); e != "" && e != "identity" {
		return part{}, false // offsets would be those of the encoded form
	}
	switch resp.StatusCode {
	case http.StatusOK:
		return part{end: resp.ContentLength, total: resp.ContentLength}, true
	case http.StatusPartialContent:
		m := contentRange.FindStringSubmatch(resp.Header.Get("Content-Range"))
		if m == nil {
			return part{}, false
		}
		first, last := number(m[1]), number(m[2])
		return part{at: first, end: last + 1, total: number(m[3])}, last >= first
	default:
		return part{}, false
	}
}

// number is -1 for a star; any other text of the pattern is a number.
func number(s string) int64 {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return -1
	}
	return n
}

// resumedBody reads as one body what may come in several pieces.
type resumedBody struct {
	next     failover
	req      *http.Request
	exchange *exchange
	body     io.ReadCloser
	part     part
	tried    int // continuations since the last byte
	rounds   int // how often since then all upstreams were asked
}

func (b *resumedBody) Read(p []byte) (int, error) {
	for {
		n, err := b.body.Read(p)
		b.part.at += int64(n)
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
			b.exchange.record.err = err
			return 0, err
		}
	}
}

func (b *resumedBody) complete() bool { return b.part.end < 0 || b.part.at >= b.part.end }

func (b *resumedBody) Close() error { return b.body.Close() }

// continueBody replaces the body with one that goes on where the last one ended.
func (b *resumedBody) continueBody(why error) error {
	x := b.exchange
	_ = b.body.Close() // it is broken already
	b.body = http.NoBody
	x.served.health.failed(time.Now(), b.next.probe, x.pull.Kind == KindBlobs)
	var last error
	for b.mayTryAgain() {
		b.tried++
		x.broken = x.served
		x.record.resumed++
		b.next.metrics.resumed()
		resp, err := b.next.RoundTrip(b.remainingRequest())
		if err != nil {
			b.tried = max(b.tried, len(x.route.targets)) // it has asked them all
		} else if err = b.takeOver(resp); err == nil {
			return nil
		}
		last = err // not all: a long outage has many
	}
	return fmt.Errorf("body of %s ended at byte %d: %w", x.pull.Reference, b.part.at, errors.Join(why, last))
}

// mayTryAgain waits until the next try is due, and reports whether there is one.
// It is due at once while some upstream was not tried since the last byte, then
// after a backoff. There is none when the backoffs are used up or the client has
// gone.
func (b *resumedBody) mayTryAgain() bool {
	if b.tried < len(b.exchange.route.targets) {
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
	req := b.req.Clone(context.WithValue(b.req.Context(), exchangeKey{}, b.exchange))
	for _, name := range []string{"If-Range", "If-Match", "If-None-Match", "If-Modified-Since", "If-Unmodified-Since"} {
		req.Header.Del(name)
	}
	span := "bytes=" + strconv.FormatInt(b.part.at, 10) + "-"
	if b.part.end >= 0 {
		span += strconv.FormatInt(b.part.end-1, 10)
	}
	req.Header.Set("Range", span)
	return req
}

// takeOver makes the body of an answer to remainingRequest ours.
func (b *resumedBody) takeOver(resp *http.Response) error {
	got, ok := partOf(resp)
	var err error
	switch {
	case !ok:
		err = errors.New(resp.Status)
	case got.at > b.part.at, got.total >= 0 && b.part.total >= 0 && got.total != b.part.total:
		err = errors.New("it has other bytes")
	default:
		// Without Range there, read again what the client has already.
		_, err = io.CopyN(io.Discard, resp.Body, b.part.at-got.at)
	}
	if err != nil {
		_ = resp.Body.Close()
		return fmt.Errorf("%s: cannot continue: %w", b.exchange.served.upstream.Host, err)
	}
	if b.part.end < 0 {
		b.part.end, b.part.total = got.end, got.total
	}
	b.body = resp.Body
	if b.part.end >= 0 {
		b.body = limitedBody{io.LimitReader(resp.Body, b.part.end-b.part.at), resp.Body}
	}
	return nil
}

// limitedBody keeps a whole body from overrunning the part that was asked for.
type limitedBody struct {
	io.Reader
	io.Closer
}
