package cache

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/d8-registry/registry/internal/datapath/fetch"
	"github.com/d8-registry/registry/internal/datapath/judge"
	"github.com/d8-registry/registry/internal/datapath/oci"
	"github.com/d8-registry/registry/internal/datapath/routes"
	"github.com/d8-registry/registry/internal/datapath/store/fill"
	"github.com/d8-registry/registry/internal/datapath/store/images"
)

// mostInMemory is what manifests may have in memory, in bytes: all of a platform.
const mostInMemory = 16 << 20

// manifest is one that was judged. It does not change.
type manifest struct {
	digest, mediaType string
	data              []byte
}

// manifests are those in memory: all nodes ask for the same ones.
type manifests struct {
	mu    sync.RWMutex
	known map[string]*manifest
	bytes int
}

func (m *manifests) get(digest string) *manifest {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.known[digest]
}

func (m *manifests) put(one *manifest) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.known[one.digest] != nil {
		return
	}
	if m.known == nil || m.bytes+len(one.data) > mostInMemory {
		m.known, m.bytes = map[string]*manifest{}, 0
	}
	m.known[one.digest] = one
	m.bytes += len(one.data)
}

func (m *manifests) drop(digest string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if one := m.known[digest]; one != nil {
		delete(m.known, digest)
		m.bytes -= len(one.data)
	}
}

// manifest answers one by digest. Whatever the client accepts: a digest is of these bytes.
func (f *front) manifest(req *http.Request, x *fetch.Exchange) (*http.Response, error) {
	if m := f.have(x.Pull.Reference); m != nil {
		if images.AsideOf(req.Context()) != nil {
			f.keep(m) // it may be in memory alone
		}
		f.cfg.Metrics.answered(x.Pull.Kind, string(fill.Hit))
		return m.response(req, x, nil)
	}
	i := inquiryOf(req, x)
	a := f.fly(keyOf(x.Pull, x.Route), func() *answer { return f.fetch(i) }).wait(req.Context())
	f.cfg.Metrics.answered(x.Pull.Kind, a.how())
	if a.manifest != nil {
		x.Record.Upstream, x.Record.Attempts = a.record.Upstream, a.record.Attempts
		return a.manifest.response(req, x, a.served)
	}
	return a.response(req, x)
}

// fly is flights.join.
func (f *front) fly(key string, do func() *answer) *flight {
	if f.cfg.alone {
		one := &flight{landed: make(chan struct{}), answer: do()}
		close(one.landed)
		return one
	}
	return f.flights.join(key, do)
}

// how is what came of asking the upstreams.
func (a *answer) how() string {
	if a.err == nil && a.status < http.StatusBadRequest {
		return "asked"
	}
	return "refused"
}

// fetch has a manifest come, by tag or digest, and keeps it.
func (f *front) fetch(i inquiry) *answer {
	a := f.ask(i, http.MethodGet)
	if a.err != nil || a.status != http.StatusOK {
		if a.err == nil && a.status == http.StatusNotFound {
			f.noteAbsent(i.pull, i.route)
		}
		return a
	}
	digest := i.pull.Reference
	if !i.pull.ByDigest() {
		digest = judge.DigestLike(a.header.Get("Docker-Content-Digest"), a.body)
	}
	m, err := judge.Read(a.header, a.body, digest)
	if err != nil || m.Kind == judge.Legacy {
		return a // it is relayed: the digest of schema 1 is not that of its bytes
	}
	a.manifest = &manifest{digest: digest, mediaType: m.MediaType, data: a.body}
	f.manifests.put(a.manifest)
	f.keep(a.manifest)
	return a
}

// keep has a manifest written. Nobody waits for the disk: it is in memory. Where the disk hangs
// many are not kept.
func (f *front) keep(m *manifest) {
	if f.Has(m.digest) || f.isFull() || f.unfit.Has(time.Now(), m.digest) || f.unwritten.Load() > mostInMemory {
		return
	}
	f.unwritten.Add(int64(len(m.data)))
	f.flights.behind(func() {
		defer f.unwritten.Add(-int64(len(m.data)))
		r, err := f.fills.Open(f.process, m.digest, 0, inMemory(m.data))
		if err == nil {
			_, err = io.Copy(io.Discard, r)
			_ = r.Close() // of what is whole, or is not to be
		}
		if err != nil {
			f.broke(nil, m.digest, err)
		}
	})
}

// inMemory is a source of what is there already.
type inMemory []byte

// Fetch implements fill.Source.
func (b inMemory) Fetch(_ context.Context, from, _ int64) (fill.Answer, error) {
	return fill.Answer{Body: io.NopCloser(bytes.NewReader(b[from:])), From: from, Size: int64(len(b))}, nil
}

// have is a manifest that is here. One that a disk which hangs does not give counts as not here.
func (f *front) have(digest string) *manifest {
	f.room.Used(digest)
	if m := f.manifests.get(digest); m != nil || !f.Has(digest) {
		return m
	}
	patience := time.NewTimer(f.cfg.Patience)
	defer patience.Stop()
	read := f.fly("read "+digest, func() *answer { return &answer{manifest: f.read(digest)} })
	select {
	case <-read.landed:
		return read.answer.manifest
	case <-patience.C:
		return nil
	}
}

// read is one on disk. It is judged again: the disk may have given other bytes, and the digest may
// be that of a layer.
func (f *front) read(digest string) *manifest {
	info, whole := f.blobs.Stat(digest)
	if !whole || info.Size > judge.Limit || !oci.IsDigest(digest) {
		return nil
	}
	b, err := f.blobs.Open(digest)
	if err != nil {
		return nil
	}
	defer func() { _ = b.Close() }() // it was only read
	data := make([]byte, info.Size)
	if n, err := b.ReadAt(data, 0); n < len(data) {
		f.broke(nil, digest, err)
		return nil
	}
	m, err := judge.Read(http.Header{}, data, digest)
	if err != nil || m.Kind == judge.Legacy {
		return nil
	}
	one := &manifest{digest: digest, mediaType: m.MediaType, data: data}
	f.manifests.put(one)
	return one
}

func (m *manifest) response(req *http.Request, x *fetch.Exchange, served *routes.Target) (*http.Response, error) {
	resp := newResponse(req, x, served, http.StatusOK, http.Header{
		"Content-Type": {m.mediaType}, "Docker-Content-Digest": {m.digest}, "Etag": {`"` + m.digest + `"`},
	})
	if req.Method != http.MethodHead {
		resp.Body = io.NopCloser(bytes.NewReader(m.data))
	}
	return withLength(resp, int64(len(m.data))), nil
}
