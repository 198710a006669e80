package answer

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"runtime"
	"testing"
	"testing/iotest"
	"time"
)

const someDigest = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

// pool makes buffers anew.
type pool struct{}

func (pool) Get() []byte { return make([]byte, 32<<10) }
func (pool) Put([]byte)  {}

// TestVerifiedReadsLikeAnyReader: in pieces of any size, with and without a length.
// Not parallel: it counts the goroutines of the process.
func TestVerifiedReadsLikeAnyReader(t *testing.T) {
	content := make([]byte, 5*SmallBlob+17)
	if _, err := rand.Read(content); err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(content)
	digest := "sha256:" + hex.EncodeToString(sum[:])
	before := runtime.NumGoroutine()
	for _, length := range []int64{int64(len(content)), -1} {
		for name, wrap := range map[string]func(io.Reader) io.Reader{
			"whole": func(r io.Reader) io.Reader { return r }, "bytes": iotest.OneByteReader, "halves": iotest.HalfReader, "with the error": iotest.DataErrReader,
		} {
			for _, right := range []bool{true, false} {
				want := digest
				if !right {
					want = someDigest
				}
				wrong := 0
				b := Verified(io.NopCloser(wrap(bytes.NewReader(content))), length, want, pool{}, func() error {
					wrong++
					return errors.New("other bytes")
				})
				got, err := io.ReadAll(iotest.HalfReader(b))
				if right && (err != nil || !bytes.Equal(got, content)) || !right && (err == nil || len(got) >= len(content)) {
					t.Errorf("%s, length %d, right %v: %d bytes, %v", name, length, right, len(got), err)
				}
				if err := errors.Join(b.Close(), b.Close()); err != nil || (wrong == 0) != right || wrong > 1 {
					t.Errorf("%s: %v, called wrong %d times", name, err, wrong)
				}
			}
		}
	}
	for range 100 { // they end when they see it
		if runtime.NumGoroutine() <= before+10 {
			return
		}
		<-time.After(10 * time.Millisecond)
	}
	t.Errorf("%d goroutines, %d before", runtime.NumGoroutine(), before)
}
