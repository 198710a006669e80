package cache

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/d8-registry/registry/internal/datapath/fetch"
	"github.com/d8-registry/registry/internal/datapath/judge"
	"github.com/d8-registry/registry/internal/datapath/oci"
	"github.com/d8-registry/registry/internal/datapath/store/fill"
	"github.com/d8-registry/registry/internal/datapath/store/images"
	"github.com/d8-registry/registry/internal/datapath/store/tags"
)

const (
	// longerWhenLow is how many times as long a tag stays fresh while its registry says that
	// it answers few more requests.
	longerWhenLow = 10
	// After a registry could not say what a tag means it is asked again after a while.
	soonest, latest = 5 * time.Second, time.Minute
)

// freshness is until when a tag is not asked for again. It is of this process: after a start
// every tag is.
type freshness struct {
	until time.Time
	stale string // why the registry did not say what it means; "" if it did
}

// old is what a tag meant, with its manifest.
type old struct {
	*manifest
	key tags.Key
	freshness
}

// keysOf are the tag of a pull at each upstream of its route.
func keysOf(i inquiry) (keys []tags.Key) {
	for _, t := range i.route.Targets {
		if repository, ok := t.Repository(i.route.Name, i.pull.Repository); ok {
			keys = append(keys, tags.Key{Place: t.Place(), Repository: repository, Tag: i.pull.Reference})
		}
	}
	return keys
}

// known is what a tag meant: at the first upstream of which it is fresh, else at the first of
// which anything is known. nil if nothing is that could be served.
func (f *front) known(i inquiry, now time.Time) (best *old) {
	for _, key := range keysOf(i) {
		meaning, ok := f.tags.Get(key)
		if !ok {
			continue
		}
		f.mu.Lock()
		fresh := f.fresh[key]
		f.mu.Unlock()
		isFresh := now.Before(fresh.until)
		if best != nil && !isFresh {
			continue
		}
		if m := f.have(meaning.Digest); m != nil {
			best = &old{m, key, fresh}
		}
		if isFresh && best != nil {
			break
		}
	}
	return best
}

// tag answers what a tag means: as it was a moment ago, else as the registry says, else, if it
// takes its time or does not say, as it was before.
func (f *front) tag(req *http.Request, x *fetch.Exchange) (*http.Response, error) {
	i, now := inquiryOf(req, x), time.Now()
	was := f.known(i, now)
	if a := images.AsideOf(req.Context()); a != nil && a.Known {
		if was == nil {
			return (&answer{status: http.StatusNoContent, header: http.Header{}}).response(req, x)
		}
		return was.response(req, x, nil)
	}
	switch {
	case was != nil && !accepts(req.Header, was.mediaType), was == nil && !accepts(req.Header, judge.Accept()...):
		return f.past(req, "accept") // the registry may have another form for this client
	case was != nil && now.Before(was.until):
		return f.old(req, x, was, was.stale)
	}
	asked := f.fly(keyOf(x.Pull, x.Route), func() *answer { return f.resolve(i, was) })
	if was == nil {
		return f.told(req, x, asked.wait(req.Context()))
	}
	patience := time.NewTimer(f.cfg.Patience)
	defer patience.Stop()
	select {
	case <-asked.landed:
	case <-req.Context().Done():
		return f.told(req, x, asked.wait(req.Context()))
	case <-patience.C:
		return f.old(req, x, was, "slow")
	}
	if reason := staleReason(asked.answer); reason != "" && !f.cfg.neverStale {
		return f.old(req, x, was, reason)
	}
	return f.told(req, x, asked.answer)
}

// old answers with what a tag meant; stale is why the registry did not say so now.
func (f *front) old(req *http.Request, x *fetch.Exchange, was *old, stale string) (*http.Response, error) {
	how := string(fill.Hit)
	if stale != "" {
		how = "stale"
		f.cfg.Metrics.stale.WithLabelValues(stale).Inc()
	}
	f.cfg.Metrics.answered(x.Pull.Kind, how)
	return was.response(req, x, nil)
}

// told answers with what the registry said.
func (f *front) told(req *http.Request, x *fetch.Exchange, a *answer) (*http.Response, error) {
	f.cfg.Metrics.answered(x.Pull.Kind, a.how())
	if a.manifest == nil {
		return a.response(req, x)
	}
	x.Record.Upstream, x.Record.Attempts = a.record.Upstream, a.record.Attempts
	return a.manifest.response(req, x, a.served)
}

// staleReason is why an old answer stands for this one, in a word; "" if it does not.
func staleReason(a *answer) string {
	var unserved *fetch.UnservedError
	switch {
	case a.err == nil:
		return ""
	case errors.As(a.err, &unserved):
		return string(unserved.Outcome())
	}
	return "broken"
}

// resolve asks what a tag means, and keeps the answer. Where it is known what it meant a HEAD
// is enough as long as it means the same: some registries count only GETs.
func (f *front) resolve(i inquiry, was *old) *answer {
	a := f.inquire(i, was)
	switch {
	case a.err != nil:
		f.postpone(i, a.err)
	case a.status == http.StatusNotFound:
		f.noteAbsent(i.pull, i.route)
		for _, key := range keysOf(i) {
			f.tags.Forget(key)
		}
		f.writeTags()
	case a.manifest != nil && a.served != nil:
		f.learn(i, a)
	}
	return a
}

func (f *front) inquire(i inquiry, was *old) *answer {
	if was == nil {
		return f.fetch(i)
	}
	a := f.ask(i, http.MethodHead)
	said := ""
	if a.err == nil {
		said = a.header.Get("Docker-Content-Digest")
	}
	switch {
	case a.err != nil, a.status == http.StatusNotFound:
		return a
	case a.status != http.StatusOK || !oci.IsDigest(said): // some know no HEAD
		return f.fetch(i)
	}
	if a.manifest = f.have(said); a.manifest != nil {
		return a
	}
	got := f.fetch(i.of(said))
	got.served = a.served // who says what it means, whoever has that
	if got.record.Attempts += a.record.Attempts; got.err == nil && got.manifest == nil {
		got.err = fmt.Errorf("tag %s means %s, it says, and answers %d for that", i.pull.Reference, said, got.status)
	}
	return got
}

// learn notes what a tag means from now on.
func (f *front) learn(i inquiry, a *answer) {
	repository, ok := a.served.Repository(i.route.Name, i.pull.Repository)
	if !ok {
		return
	}
	key := tags.Key{Place: a.served.Place(), Repository: repository, Tag: i.pull.Reference}
	lasts, now := f.cfg.Fresh, time.Now()
	if judge.AllowanceOf(&http.Response{StatusCode: a.status, Header: a.header}, now).Low(now) {
		lasts *= longerWhenLow
	}
	if err := f.tags.Note(key, tags.Meaning{Digest: a.manifest.digest, MediaType: a.manifest.mediaType}); err != nil {
		f.log("note what a tag means", err)
		return // what is known is what it meant before
	}
	f.writeTags()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fresh[key] = freshness{until: now.Add(lasts)}
}

// writeTags has what was noted survive. Nobody waits for it: a disk that hangs holds up no pull.
func (f *front) writeTags() {
	f.flights.behind(func() { f.log("write what tags mean", f.tags.Write()) })
}

// postpone notes that it is not known what a tag means now: what it meant stands meanwhile, so
// that not each client waits for a registry that is away.
func (f *front) postpone(i inquiry, err error) {
	wait := soonest
	var unserved *fetch.UnservedError
	if errors.As(err, &unserved) {
		wait = min(max(unserved.Wait(), soonest), latest)
	}
	until := time.Now().Add(wait)
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, key := range keysOf(i) {
		if now := f.fresh[key]; now.until.Before(until) {
			f.fresh[key] = freshness{until, staleReason(&answer{err: err})}
		}
	}
}

func (f *front) log(what string, err error) {
	if err != nil {
		f.cfg.Log.Warn("the store of what tags mean", "step", what, "err", err)
	}
}

// accepts reports whether a client reads all of these media types. One that says nothing does.
func accepts(header http.Header, types ...string) bool {
	var said []string
	for _, value := range header.Values("Accept") {
		for one := range strings.SplitSeq(value, ",") {
			kind, _, _ := strings.Cut(one, ";")
			said = append(said, strings.TrimSpace(kind))
		}
	}
	if len(said) == 0 || slices.Contains(said, "*/*") {
		return true
	}
	return !slices.ContainsFunc(types, func(kind string) bool { return !slices.Contains(said, kind) })
}
