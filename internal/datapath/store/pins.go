package store

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"

	"github.com/d8-registry/registry/internal/datapath/front"
	"github.com/d8-registry/registry/internal/datapath/oci"
	"github.com/d8-registry/registry/internal/datapath/store/images"
	"github.com/d8-registry/registry/internal/layout"
)

// keyPins is the file of the images in use, see images.Parse: what they name is never evicted, and
// what is missing is fetched. Without it there are none.
const keyPins = "pins"

// pins are the last good ones.
type pins struct {
	replace func(all []oci.Pull)

	mu      sync.Mutex
	seen    string
	problem error
}

// apply takes over what is good in the content. What is wrong changes nothing: what is not
// pinned any more may be lost.
func (p *pins) apply(c front.Content) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c.Err != nil {
		return // the front says so
	}
	if p.problem = c.Unread[keyPins]; p.problem != nil {
		return
	}
	text := string(c.Data[keyPins])
	if text == p.seen {
		return
	}
	fixed := layout.Fixed()
	all, err := images.Parse(text, fixed.Host, fixed.Path)
	if err != nil {
		p.problem = fmt.Errorf("%s: %w; the last good ones stay", keyPins, err)
		return
	}
	p.seen = text
	p.replace(all)
}

func (p *pins) trouble() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.problem
}

// prefetch is who pulls images in use for nobody: one client more of the data path.
type prefetch struct{ pulls http.Handler }

// pull is images.Config.Pull.
func (p *prefetch) pull(ctx context.Context, method string, pull oci.Pull, known bool) (a images.Answer) {
	aside := &images.Aside{Known: known}
	address := "https://" + pull.Host + oci.Root + pull.Path(pull.Repository) + "?ns=" + url.QueryEscape(pull.Host)
	req, err := http.NewRequestWithContext(aside.With(ctx), method, address, http.NoBody)
	if err != nil {
		return images.Answer{Broken: true} // a pull that was parsed is a request
	}
	req.RemoteAddr = "prefetch"
	s := &sink{header: http.Header{}}
	defer func() {
		why := recover()
		a = s.answer(aside.Why, why != nil)
		if why != nil && why != http.ErrAbortHandler { //nolint:errorlint // it is thrown as it is
			panic(why)
		}
	}()
	p.pulls.ServeHTTP(s, req)
	return a
}

// sink reads all that comes.
type sink struct {
	header http.Header
	status int
}

func (s *sink) Header() http.Header         { return s.header }
func (s *sink) Write(b []byte) (int, error) { s.WriteHeader(http.StatusOK); return len(b), nil }
func (s *sink) Flush()                      {}

// WriteHeader notes the first one.
func (s *sink) WriteHeader(status int) {
	if s.status == 0 {
		s.status = status
	}
}

func (s *sink) answer(why string, broken bool) images.Answer {
	seconds, err := strconv.ParseUint(s.header.Get("Retry-After"), 10, 16)
	if err != nil {
		seconds = 0 // it does not say
	}
	return images.Answer{
		Status: s.status, Digest: s.header.Get("Docker-Content-Digest"), Wait: time.Duration(seconds) * time.Second, Why: why, Broken: broken,
	}
}
