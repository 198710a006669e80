package proxy

import (
	"context"
	"io"
	"net/http"
	"strconv"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/d8-registry/registry/internal/datapath/answer"
	"github.com/d8-registry/registry/internal/datapath/judge"
	"github.com/d8-registry/registry/test/harness/testregistry"
)

// waits is the histogram of answers of a kind that became an outcome: how many, and
// seconds of all together. Every request is counted by then.
func (s *system) waits(kind, outcome string) (answers uint64, seconds float64) {
	s.t.Helper()
	s.server.Close()
	families, err := s.reg.Gather()
	if err != nil {
		s.t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			labels := map[string]string{}
			for _, l := range m.GetLabel() {
				labels[l.GetName()] = l.GetValue()
			}
			if f.GetName() == "registry_proxy_first_byte_seconds" && labels["kind"] == kind && labels["outcome"] == outcome {
				return m.GetHistogram().GetSampleCount(), m.GetHistogram().GetSampleSum()
			}
		}
	}
	return 0, 0
}

// TestFirstByteByOutcome: each answer is one of a few outcomes.
func TestFirstByteByOutcome(t *testing.T) {
	t.Parallel()
	for outcome, faults := range map[string]testregistry.Faults{
		"served": {}, "not_found": {Status: 404}, "refused": {Status: 410}, "limited": {Status: 429}, "failed": {Status: 503},
		"cut": {WrongBytes: true},
	} {
		t.Run(outcome, func(t *testing.T) {
			t.Parallel()
			a, b, img := pair(t, testregistry.Options{})
			s := start(t, Config{}, a.Upstream("team/a"), b.Upstream("team/b"))
			a.SetFaults(faults)
			b.SetFaults(faults)
			digest, _ := blob(t, img)
			s.get(blobPath(digest))
			if got, _ := s.waits("blobs", outcome); got != 1 {
				t.Errorf("%d answers, want 1", got)
			}
		})
	}
}

// TestFirstByteIsOfTheBody: an upstream may send its header at once and think then.
func TestFirstByteIsOfTheBody(t *testing.T) {
	t.Parallel()
	const think = 300 * time.Millisecond
	layer := string(make([]byte, 2*answer.SmallBlob))
	up := host(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/octet-stream") // text is looked at before the header goes out
		w.Header().Set("Content-Length", strconv.Itoa(len(layer)))
		_ = http.NewResponseController(w).Flush()
		<-time.After(think)
		_, _ = io.WriteString(w, layer)
	})
	s := start(t, Config{}, up)
	wantBlob(t, s.get(blobPath(judge.DigestLike("", []byte(layer)))), []byte(layer))
	if _, got := s.waits("blobs", "served"); got < think.Seconds() {
		t.Errorf("%v s until the first byte, which came after %v", got, think)
	}
}

// TestGoneIsHowLongAClientWaited: the time that it had patience for, not none.
func TestGoneIsHowLongAClientWaited(t *testing.T) {
	t.Parallel()
	const patience = 300 * time.Millisecond
	s := start(t, Config{}, host(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.server.URL+manifestPath, nil)
	if err != nil {
		t.Fatal(err)
	}
	if resp, err := (&http.Transport{}).RoundTrip(req); err == nil {
		_ = resp.Body.Close()
		t.Fatal(resp.Status)
	}
	if n, got := s.waits("manifests", "gone"); n != 1 || got < patience.Seconds()/2 {
		t.Errorf("%d waited, %v s together", n, got)
	}
}

// TestTokensAreCounted: one for two pulls, one that is refused, and none is left of an
// upstream that is gone.
func TestTokensAreCounted(t *testing.T) {
	t.Parallel()
	a, b, _ := pair(t, testregistry.Options{Username: "u", Password: "p", Bearer: true})
	wrong := b.Upstream("team/b")
	wrong.Credentials.Password = "old"
	s := start(t, Config{}, a.Upstream("team/a"))
	tokens := func(r *testregistry.Registry, outcome string) float64 {
		return testutil.ToFloat64(s.metrics.tokens.WithLabelValues(r.Host(), outcome))
	}
	s.get(manifestPath)
	s.get(manifestPath)
	if n := tokens(a, "given"); n != 1 {
		t.Errorf("%v tokens for two pulls", n)
	}
	s.swap(2, wrong)
	s.get(manifestPath)
	if n := tokens(b, "refused"); n == 0 {
		t.Error("none is refused")
	}
	if n := testutil.CollectAndCount(s.metrics.tokens); n != 1 {
		t.Errorf("%d series, want that of the one upstream", n)
	}
}
