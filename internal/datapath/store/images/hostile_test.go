package images

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode"

	"github.com/d8-registry/registry/internal/datapath/judge"
	"github.com/d8-registry/registry/internal/datapath/oci"
)

// world is a registry that says whatever a test wants, and the disk of what came of it.
type world struct {
	serve func(digest string) string // a manifest; "" is 404
	busy  bool                       // it says 429
	slow  bool                       // a blob is on the disk a moment after it came

	mu     sync.Mutex
	has    map[string]string
	pinned []string
	asked  []string
}

func (w *world) Has(digest string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	_, here := w.has[digest]
	return here
}

func (w *world) Manifest(digest string) []byte {
	w.mu.Lock()
	defer w.mu.Unlock()
	if text := w.has[digest]; text != "" {
		return []byte(text)
	}
	return nil
}

func (w *world) Pin(digests []string) { w.pinned = digests }
func (w *world) Low() time.Time       { return time.Time{} }

func (w *world) pull(_ context.Context, method string, pull oci.Pull, _ bool) Answer {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asked = append(w.asked, pull.Reference)
	switch {
	case method == http.MethodHead:
		return Answer{Status: http.StatusOK, Digest: "sha256:\x1b[2J\n" + pull.Reference}
	case pull.Kind == oci.KindBlobs && w.slow:
		time.AfterFunc(20*time.Millisecond, func() {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.has[pull.Reference] = ""
		})
		return Answer{Status: http.StatusOK}
	case pull.Kind == oci.KindBlobs:
		w.has[pull.Reference] = ""
		return Answer{Status: http.StatusOK}
	}
	text := w.serve(pull.Reference)
	if text == "" {
		return Answer{Status: http.StatusNotFound}
	}
	w.has[pull.Reference] = text
	return Answer{Status: http.StatusOK}
}

func (w *world) limits(_ context.Context, _ string, pull oci.Pull, _ bool) Answer {
	w.asked = append(w.asked, pull.Reference)
	return Answer{Status: http.StatusTooManyRequests, Wait: 24 * time.Hour}
}

// images are the lines, by what is said to the log.
func (w *world) images(t *testing.T, log *bytes.Buffer, lines ...string) *Images {
	t.Helper()
	w.has = map[string]string{}
	pull := w.pull
	if w.busy {
		pull = w.limits
	}
	im := New(Config{
		Disk: func() Disk { return w }, Pull: pull, Owns: func(string) bool { return true },
		Again: time.Hour, Log: slog.New(slog.NewTextHandler(log, nil)),
	})
	all, err := read(strings.Join(lines, "\n"))
	if err != nil {
		t.Fatal(err)
	}
	im.Replace(all)
	return im
}

func numbered(n int) string { return fmt.Sprintf("sha256:%064x", n) }

// entries is a list of so many, the first of them numbered first.
func entries(first, n int) string {
	var all strings.Builder
	for i := range n {
		fmt.Fprintf(&all, `{"digest":%q,"size":1},`, numbered(first+i))
	}
	return "[" + strings.TrimSuffix(all.String(), ",") + "]"
}

// TestHostileManifests: whatever a manifest names, it is bounded what is asked for, pinned and kept in
// memory, and the image after it is fetched.
func TestHostileManifests(t *testing.T) {
	t.Parallel()
	const hostile, good = 1, 1 << 40
	next := func(digest string) (n int) {
		_, _ = fmt.Sscanf(strings.TrimLeft(digest[len("sha256:"):], "0"), "%x", &n)
		return n
	}
	text := func(s string) func(int) string { return func(int) string { return s } }
	strange := `{"layers":[{"digest":%q},` + entries(2, 1)[1:] + `}`
	for name, c := range map[string]struct {
		serve func(n int) string
		most  int  // asked for
		whole bool // a cluster may run it
	}{
		"indexes without end":      {func(n int) string { return `{"manifests":` + entries(n+1, 1) + `}` }, deepest + 1, false},
		"an index of itself":       {text(`{"manifests":` + entries(hostile, 1) + `}`), 1, true},
		"an index of itself a lot": {text(`{"manifests":[` + strings.Repeat(entries(hostile, 1)[1:len(entries(hostile, 1))-1]+",", 999) + entries(hostile, 1)[1:] + `}`), 1, true},
		"indexes of indexes":       {func(n int) string { return `{"manifests":` + entries(n*mostNames, mostNames) + `}` }, mostOfImage, false},
		"images of many layers": {func(n int) string {
			return `{"manifests":` + entries(n*mostNames, 20) + `,"layers":` + entries(n*mostNames+20, 900) + `}`
		}, mostOfImage, false},
		"a layer too many":         {text(`{"layers":` + entries(2, mostNames+1) + `}`), 1, false},
		"one layer many times":     {text(`{"layers":[` + strings.Repeat(entries(2, 1)[1:len(entries(2, 1))-1]+",", 900) + entries(2, 1)[1:] + `}`), 2, true},
		"4 MiB of layers":          {text(`{"layers":` + entries(2, judge.Limit/90) + `}`), 1, false},
		"4 MiB of brackets":        {text(`{"layers":` + strings.Repeat("[", judge.Limit-20)), 1, false},
		"4 MiB of a name":          {text(`{"layers":[{"digest":"sha256:` + strings.Repeat("a", judge.Limit-50) + `"}]}`), 1, false},
		"a layer that is a path":   {text(fmt.Sprintf(strange, "sha256:../../../../etc/passwd")), 1, false},
		"a layer that is a screen": {text(fmt.Sprintf(strange, "sha256:\x1b[2J\n")), 1, false},
		"layers of other types":    {text(`{"layers":[7,null,{"digest":[]}]}`), 1, false},
		"sizes that lie":           {text(strings.ReplaceAll(`{"config":{"digest":"`+numbered(2)+`","size":-1},"layers":`+entries(3, 2)+`}`, `:1}`, `:9223372036854775808}`)), 4, true},
		"a layer that is itself":   {text(`{"layers":` + entries(hostile, 1) + `}`), 1, true},
		"no manifest":              {text(""), 1, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, log := &world{}, &bytes.Buffer{}
			w.serve = func(digest string) string {
				if digest == numbered(good) {
					return `{"layers":` + entries(good+1, 2) + `}`
				}
				return c.serve(next(digest))
			}
			im := w.images(t, log, "a@"+numbered(hostile), "b:strange", "c@"+numbered(good))
			im.pass(t.Context())
			im.Look(t.Context())
			want := 1
			if c.whole {
				want = 2
			}
			if got := im.Count(); got.Here != want || got.Images != 3 || got.Over {
				t.Errorf("%+v, not %d of 3", got, want)
			}
			if got := len(w.asked) - 1 - 1 - 3; got > c.most { // of the tag, to fetch and to look; of the good one
				t.Errorf("%d were asked for, not %d", got, c.most)
			}
			if len(w.pinned) > c.most+3+mostNames || im.names > mostDigests {
				t.Errorf("%d are pinned, %d names in memory", len(w.pinned), im.names)
			}
			for _, digest := range append(w.pinned, w.asked...) {
				if !oci.IsDigest(digest) && digest != "strange" {
					t.Errorf("%q", digest)
				}
			}
			if strings.ContainsFunc(log.String(), func(r rune) bool { return r != '\n' && !unicode.IsPrint(r) }) || log.Len() > 1<<10 {
				t.Errorf("%q", log)
			}
		})
	}
}

// TestManyThatCannotBe: images that are nowhere, or that nobody can have, do not hold up the others.
func TestManyThatCannotBe(t *testing.T) {
	t.Parallel()
	const good = 9
	w := &world{serve: func(digest string) string {
		switch digest {
		case numbered(1), numbered(2), numbered(3), numbered(4):
			return `{"layers":[{"digest":"?"}]}`
		case numbered(good):
			return `{"layers":` + entries(good+1, 2) + `}`
		}
		return ""
	}}
	var lines []string
	for i := range good {
		lines = append(lines, "a@"+numbered(i+1))
	}
	im := w.images(t, &bytes.Buffer{}, lines...)
	im.pass(t.Context())
	im.Look(t.Context())
	if got := im.Count(); got.Here != 1 {
		t.Errorf("%+v, asked for %d", got, len(w.asked))
	}
}

// TestWhoIsBusyIsLeftAlone: who says 429 is not asked for another image, as long as it says.
func TestWhoIsBusyIsLeftAlone(t *testing.T) {
	t.Parallel()
	w := &world{busy: true}
	im := w.images(t, &bytes.Buffer{}, "a@"+numbered(1), "a@"+numbered(2), "a@"+numbered(3))
	for range 3 {
		if next := im.pass(t.Context()); next < 23*time.Hour || next > 24*time.Hour {
			t.Errorf("it goes on in %s", next)
		}
	}
	if len(w.asked) != 1 {
		t.Errorf("it was asked %d times", len(w.asked))
	}
}

// TestMoreThanIsPinned: the first lines are pinned, and it is said that there are more.
func TestMoreThanIsPinned(t *testing.T) {
	t.Parallel()
	w := &world{}
	const layers, images = mostNames - 1, mostDigests/mostNames + 2
	lines := make([]string, images)
	for i := range lines {
		lines[i] = "a@" + numbered(i*mostNames)
	}
	lines = append(lines, "b@"+numbered(0)) // all of it is pinned already
	im := w.images(t, &bytes.Buffer{}, lines...)
	for i := range images {
		w.has[numbered(i*mostNames)] = `{"layers":` + entries(i*mostNames+1, layers) + `}`
		for n := range layers {
			w.has[numbered(i*mostNames+1+n)] = ""
		}
	}
	im.Look(t.Context())
	if got := im.Count(); len(w.pinned) != mostDigests || !got.Over || got.Here != mostDigests/mostNames+1 || im.names > mostDigests {
		t.Errorf("%+v, %d pinned, %d names", got, len(w.pinned), im.names)
	}
	all, err := read(lines[0])
	if err != nil {
		t.Fatal(err)
	}
	im.Replace(all)
	im.Look(t.Context())
	if got := im.Count(); len(w.pinned) != mostNames || got.Over || got.Here != 1 || im.names != mostNames || len(im.known) != 1 {
		t.Errorf("%+v, %d pinned, %d names of %d", got, len(w.pinned), im.names, len(im.known))
	}
}

// TestManyOfTheSameLayers: few things that many manifests name are pinned, and not all of these
// manifests are remembered.
func TestManyOfTheSameLayers(t *testing.T) {
	t.Parallel()
	w := &world{}
	const images = mostDigests/mostNames + 5
	lines := make([]string, images)
	for i := range lines {
		lines[i] = "a@" + numbered(i)
	}
	im := w.images(t, &bytes.Buffer{}, lines...)
	for n := range mostNames {
		w.has[numbered(images+n)] = ""
	}
	for i := range images {
		w.has[numbered(i)] = `{"layers":` + entries(images, mostNames) + `}`
	}
	for range 2 {
		im.Look(t.Context())
		if got := im.Count(); len(w.pinned) != images+mostNames || got.Over || got.Here != images || im.names > mostDigests {
			t.Errorf("%+v, %d pinned, %d names", got, len(w.pinned), im.names)
		}
	}
}

// TestTheNewOnesAreNotHereYet: before a look nothing is said of an image that was not looked at.
func TestTheNewOnesAreNotHereYet(t *testing.T) {
	t.Parallel()
	w := &world{serve: func(string) string { return `{"layers":` + entries(9, 1) + `}` }}
	im := w.images(t, &bytes.Buffer{}, "a@"+numbered(1))
	im.pass(t.Context())
	im.Look(t.Context())
	all, err := read("a@" + numbered(1) + "\na@" + numbered(2))
	if err != nil {
		t.Fatal(err)
	}
	im.Replace(all[1:])
	if got := im.Count(); got.Here != 0 || got.Images != 1 {
		t.Errorf("another one: %+v", got)
	}
	im.Replace(all)
	im.Look(t.Context())
	if got := im.Count(); got.Here != 1 || got.Images != 2 {
		t.Errorf("both: %+v", got)
	}
}

// TestASlowDisk: that a blob is on the disk a moment after its last byte was read is no failure, after
// some of which the rest is left for later.
func TestASlowDisk(t *testing.T) {
	t.Parallel()
	const images = 2 * mostInARow
	w, log := &world{slow: true}, &bytes.Buffer{}
	w.serve = func(digest string) string {
		return `{"layers":[{"digest":"sha256:f` + digest[len("sha256:f"):] + `","size":1}]}`
	}
	var lines []string
	for i := range images {
		lines = append(lines, "a@"+numbered(i+1))
	}
	im := w.images(t, log, lines...)
	im.pass(t.Context())
	im.Look(t.Context())
	if got := im.Count(); got.Here != images || log.Len() > 0 {
		t.Errorf("%+v after one pass, and %q", got, log)
	}
}
