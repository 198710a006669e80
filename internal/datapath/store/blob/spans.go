package blob

import (
	"slices"
	"sort"
)

// Span are the bytes from From to before To.
type Span struct{ From, To int64 }

// spans are in order; they neither overlap nor touch.
type spans []Span

// at is the first one that ends behind a place.
func (s spans) at(place int64) int {
	return sort.Search(len(s), func(i int) bool { return s[i].To > place })
}

// covered is where the bytes from a place on end; the place itself if it is missing.
func (s spans) covered(place int64) int64 {
	if i := s.at(place); i < len(s) && s[i].From <= place {
		return s[i].To
	}
	return place
}

// gap is the first one at or after a place, and whether there is one before size.
func (s spans) gap(place, size int64) (Span, bool) {
	place = s.covered(place)
	if place >= size {
		return Span{}, false
	}
	if i := s.at(place); i < len(s) {
		return Span{place, s[i].From}, true
	}
	return Span{place, size}, true
}

// add is with the bytes of one more, which may be there already.
func (s spans) add(n Span) spans {
	i := sort.Search(len(s), func(i int) bool { return s[i].To >= n.From })
	j := sort.Search(len(s), func(i int) bool { return s[i].From > n.To })
	if i < j {
		n.From, n.To = min(n.From, s[i].From), max(n.To, s[j-1].To)
	}
	return slices.Replace(s, i, j, n)
}

// valid reports whether spans from elsewhere are in order and in a blob of that size.
func (s spans) valid(size int64) bool {
	end := int64(-1)
	for _, n := range s {
		if n.From <= end || n.To <= n.From || n.To > size {
			return false
		}
		end = n.To
	}
	return true
}
