package cache

import (
	"bytes"
	"io"
	"net/http"
	"sync"

	"github.com/d8-registry/registry/internal/datapath/fetch"
)

// mostLists is what lists may have in memory, in bytes.
const mostLists = 8 << 20

// lists are the last good ones, of tags and of referrers. They are in memory only: nobody
// needs one to run an image.
type lists struct {
	mu    sync.Mutex
	known map[string]*answer
	bytes int
}

// weight is what one has in memory, about: clients may ask for any number that are empty.
func weight(key string, a *answer) int {
	n := 512 + len(key) + len(a.body)
	for name, values := range a.header {
		n += len(name)
		for _, value := range values {
			n += len(value)
		}
	}
	return n
}

func (l *lists) get(key string) *answer {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.known[key]
}

func (l *lists) put(key string, a *answer) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if known := l.known[key]; known != nil {
		l.bytes -= weight(key, known)
	}
	if l.known == nil || l.bytes+weight(key, a) > mostLists {
		l.known, l.bytes = map[string]*answer{}, 0
	}
	l.known[key] = a
	l.bytes += weight(key, a)
}

func (l *lists) drop(key string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if known := l.known[key]; known != nil {
		l.bytes -= weight(key, known)
		delete(l.known, key)
	}
}

// list asks the upstreams, and answers with the last good list when they do not.
func (f *front) list(req *http.Request, x *fetch.Exchange) (*http.Response, error) {
	if req.Method != http.MethodGet {
		return f.past(req, "head")
	}
	key := x.Route.Targets[0].Place() + "/" + x.Pull.Host + x.Pull.Path(x.Pull.Repository) + "?" + x.Pull.Query
	resp, err := f.next.RoundTrip(req)
	if err != nil {
		was := f.lists.get(key)
		if was == nil || req.Context().Err() != nil || f.cfg.neverStale {
			return nil, err //nolint:wrapcheck // it is what it would be without a store
		}
		reason := staleReason(&answer{err: err})
		f.cfg.Metrics.stale.WithLabelValues(reason).Inc()
		f.cfg.Metrics.answered(x.Pull.Kind, "stale")
		return was.response(req, x)
	}
	switch resp.StatusCode {
	case http.StatusOK:
		a := collect(resp, nil, x)
		if a.err != nil {
			return nil, a.err
		}
		f.lists.put(key, a)
		resp.Header = a.header.Clone() // what becomes of it on its way is this client's
		resp.Body = io.NopCloser(bytes.NewReader(a.body))
	case http.StatusNotFound:
		f.lists.drop(key)
	}
	f.cfg.Metrics.answered(x.Pull.Kind, "asked")
	return resp, nil
}
