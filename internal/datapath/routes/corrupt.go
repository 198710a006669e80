package routes

import "time"

// Corrupt remembers for which digests an upstream gave other bytes.
type Corrupt struct{ Recent }

const (
	// corruptFor is longer than the pause of kubelet between two tries.
	corruptFor = 10 * time.Minute
	// mostCorrupt bounds what is remembered of one upstream.
	mostCorrupt = 256
)

// Note is that an upstream gave other bytes than this digest says.
func (c *Corrupt) Note(now time.Time, digest string) {
	c.Recent.Note(now, digest, corruptFor, mostCorrupt)
}

// NoteStores is Note for the stores among several that gave of it, where nobody knows whose fault it is:
// nobody needs stores, and without them it shows whether a registry is to blame.
func NoteStores(among []*Target, now time.Time, digest string) {
	for _, t := range among {
		if t.IsStore() {
			t.Corrupt.Note(now, digest)
		}
	}
}

// Has reports whether it did so a while ago.
func (c *Corrupt) Has(now time.Time, digest string) bool { return c.Recent.Has(now, digest) }
