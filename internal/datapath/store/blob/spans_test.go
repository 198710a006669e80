package blob

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// TestSpans holds spans against one bit for each byte.
func TestSpans(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		const size = 40
		var s spans
		var bits [size]bool
		for range rapid.IntRange(0, 30).Draw(t, "pieces") {
			from := rapid.Int64Range(0, size-1).Draw(t, "from")
			to := rapid.Int64Range(from+1, size).Draw(t, "to")
			s = s.add(Span{from, to})
			for i := from; i < to; i++ {
				bits[i] = true
			}
			if !s.valid(size) {
				t.Fatalf("%v: not in order, or they touch", s)
			}
		}
		for at := range int64(size) {
			to := at
			for to < size && bits[to] {
				to++
			}
			if got := s.covered(at); got != to {
				t.Fatalf("%v: from %d covered to %d, want %d", s, at, got, to)
			}
			end := to
			for end < size && !bits[end] {
				end++
			}
			want, missing := Span{to, end}, to < size
			if got, ok := s.gap(at, size); ok != missing || ok && got != want {
				t.Fatalf("%v: the gap from %d is %v, %v, want %v", s, at, got, ok, want)
			}
		}
	})
}

// TestSpansOfOthers: what is read from disk is in order, or is not taken.
func TestSpansOfOthers(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		s    spans
		want bool
	}{
		{nil, true},
		{spans{{0, 10}}, true},
		{spans{{0, 4}, {5, 10}}, true},
		{spans{{0, 11}}, false},
		{spans{{-1, 2}}, false},
		{spans{{3, 3}}, false},
		{spans{{3, 2}}, false},
		{spans{{0, 4}, {4, 10}}, false},
		{spans{{5, 6}, {0, 2}}, false},
		{spans{{0, 1 << 62}}, false},
	} {
		if got := row.s.valid(10); got != row.want {
			t.Errorf("%v: %v", row.s, got)
		}
	}
}

// FuzzMeta: whatever is on disk, what is taken of it is in order, and no more than there is.
func FuzzMeta(f *testing.F) {
	const digest = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	for _, text := range []string{
		``, `{}`, `null`, `{"size":-1}`, "\x00\x00\x00",
		`{"digest":"` + digest + `","size":10,"boot":"a","spans":[{"From":0,"To":4},{"From":6,"To":10}]}`,
		`{"digest":"` + digest + `","size":10,"boot":"a","spans":[{"From":6,"To":10},{"From":0,"To":4}]}`,
		`{"digest":"` + digest + `","size":9223372036854775807,"boot":"a","spans":[{"From":0,"To":9223372036854775807}]}`,
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := parseMeta(data, digest, "a")
		if err != nil {
			return
		}
		if m.Digest != digest || m.Boot != "a" || m.Size < 0 || !m.Spans.valid(m.Size) {
			t.Errorf("%q is taken as %v", data, m)
		}
		if i, ok := m.Spans.gap(0, m.Size); ok && (i.From < 0 || i.To > m.Size || i.From >= i.To) {
			t.Errorf("%q has the gap %v", data, i)
		}
		_ = slices.Clone(m.Spans).add(Span{0, m.Size})
	})
}
