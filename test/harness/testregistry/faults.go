package testregistry

import (
	"net/http"
	"time"
)

// Faults is how a registry misbehaves. The zero value is a healthy one. Several
// fields together do all of it.
type Faults struct {
	// Match limits the faults to some requests; nil means all, also token
	// requests and the second server's.
	Match func(*http.Request) bool
	// Times is how many requests fail before the registry is healthy
	// again; 0 means all.
	Times int

	Latency time.Duration // before anything else
	Status  int           // answered instead, with an OCI error
	// Message is the error's message with Status.
	Message    string
	RetryAfter string // header, with Status
	// Answer answers instead, whatever was asked.
	Answer http.HandlerFunc
	// Hang accepts a request and never answers.
	Hang bool
	// HangOnAccept accepts new connections and never says a word, not even
	// TLS. Not limited by Match and Times.
	HangOnAccept bool
	// CutAfter breaks the connection after so many bytes of a body.
	CutAfter int64
	// StallAfter goes silent after so many bytes of a body.
	StallAfter int64
	// WrongBytes sends as many bytes as promised, but others.
	WrongBytes bool
	// NoRange ignores Range.
	NoRange bool
	// Header is added to every answer.
	Header http.Header
}

// WebPage answers as a web server does that knows nothing of registries. It is for
// Faults.Answer.
func WebPage(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_, _ = w.Write([]byte("<!DOCTYPE html><title>Welcome</title>")) // the client may be gone
}

// SetFaults replaces the faults; Faults{} heals. Silent connections stay
// silent.
func (r *Registry) SetFaults(f Faults) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.faults = f
	r.faultsLeft = f.Times
	if f.Times == 0 {
		r.faultsLeft = -1
	}
}

// fault returns the faults for this request.
func (r *Registry) fault(req *http.Request) Faults {
	r.mu.Lock()
	defer r.mu.Unlock()
	f := r.faults
	if r.faultsLeft == 0 || f.Match != nil && !f.Match(req) {
		return Faults{}
	}
	if r.faultsLeft > 0 {
		r.faultsLeft--
	}
	return f
}

// misbehave does what comes before an answer; false means that the answer has
// been given.
func (r *Registry) misbehave(w http.ResponseWriter, req *http.Request, f Faults) bool {
	if f.Latency > 0 && !r.wait(req, f.Latency) {
		return false
	}
	if f.Hang {
		r.wait(req, time.Hour)
		panic(http.ErrAbortHandler)
	}
	for key, values := range f.Header {
		w.Header()[key] = values
	}
	if f.NoRange {
		req.Header.Del("Range")
	}
	if f.Answer != nil {
		f.Answer(w, req)
		return false
	}
	if f.Status != 0 {
		if f.RetryAfter != "" {
			w.Header().Set("Retry-After", f.RetryAfter)
		}
		writeError(w, f.Status, "FAULT", f.Message)
		return false
	}
	return true
}

// wait is false when the client or the registry is gone before the time is up.
func (r *Registry) wait(req *http.Request, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-req.Context().Done():
	case <-r.closed:
	}
	return false
}

// faultyWriter spoils a body on its way.
type faultyWriter struct {
	http.ResponseWriter
	registry *Registry
	req      *http.Request
	faults   Faults
	record   *Request
	sent     int64
}

func (w *faultyWriter) WriteHeader(status int) {
	w.registry.account(w.record, status, 0)
	w.ResponseWriter.WriteHeader(status)
}

func (w *faultyWriter) Write(p []byte) (int, error) {
	limit := w.limit()
	last := limit > 0 && w.sent+int64(len(p)) > limit
	if last {
		p = p[:limit-w.sent]
	}
	if w.faults.WrongBytes {
		p = append([]byte(nil), p...)
		for i := range p {
			p[i] ^= 0xff
		}
	}
	// Accounted before it is sent: a test may look as soon as it has the bytes.
	w.registry.account(w.record, http.StatusOK, len(p))
	n, err := w.ResponseWriter.Write(p)
	w.sent += int64(n)
	if err != nil || !last {
		return n, err
	}
	_ = http.NewResponseController(w.ResponseWriter).Flush()
	if w.faults.StallAfter > 0 {
		w.registry.wait(w.req, time.Hour)
	}
	panic(http.ErrAbortHandler)
}

func (w *faultyWriter) limit() int64 {
	if w.faults.CutAfter > 0 {
		return w.faults.CutAfter
	}
	return w.faults.StallAfter
}
