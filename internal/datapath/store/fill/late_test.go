//go:build brokenprotocol

package fill

import (
	"bytes"
	"io"
	"testing"
)

// TestWithoutTheLastByteHeldBack is the negative control of wrong bytes: a store that looks at the digest when all
// is given out has clients complete a whole blob of them, and keeps nothing of it.
func TestWithoutTheLastByteHeldBack(t *testing.T) {
	t.Parallel()
	promises, err := Broken(BrokenLastByte)
	if err != nil {
		t.Fatal(err)
	}
	b, s := newBench(t, func(c *Config) { c.Promises = promises }), newScript(t, large)
	s.data[500_000]++
	r, err := b.Open(t.Context(), s.digest, 0, s)
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(r)
	if err != nil || !bytes.Equal(got, s.data) {
		t.Errorf("%d bytes of %d, %v: nobody has the wrong ones", len(got), len(s.data), err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	b.settled()
	if len(b.blobs.Blobs()) > 0 {
		t.Error("wrong bytes are kept as a blob")
	}
}
