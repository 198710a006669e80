package fill

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"sync"
	"testing"
	"time"
)

const benchSize = 64 << 20

// fast is a source in memory, at full speed or with a wait before each piece.
type fast struct {
	data []byte
	wait time.Duration
}

func (s *fast) Fetch(_ context.Context, from, to int64) (Answer, error) {
	if to < 0 {
		to = int64(len(s.data))
	}
	return Answer{Body: &fastBody{rest: s.data[from:to], wait: s.wait}, From: from, Size: int64(len(s.data))}, nil
}

type fastBody struct {
	rest []byte
	wait time.Duration
}

func (b *fastBody) Read(p []byte) (int, error) {
	if len(b.rest) == 0 {
		return 0, io.EOF
	}
	if b.wait > 0 {
		<-time.After(b.wait)
	}
	n := copy(p, b.rest)
	b.rest = b.rest[n:]
	return n, nil
}

func (b *fastBody) Close() error { return nil }

// BenchmarkReaders reads a blob with many clients at once: cold, while it comes, and warm, from
// disk. The difference is what reading while it comes costs. Bytes are those that were read.
func BenchmarkReaders(b *testing.B) {
	data := make([]byte, benchSize)
	digest := fmt.Sprintf("sha256:%x", sha256.Sum256(data))
	for _, clients := range []int{1, 8, 64} {
		for _, how := range []string{"cold", "slow", "warm"} {
			b.Run(fmt.Sprintf("%s/%d", how, clients), func(b *testing.B) {
				src := &fast{data: data}
				if how == "slow" {
					src.wait = 100 * time.Microsecond
				}
				bench := newBench(b)
				buffers := make([][]byte, clients)
				for i := range buffers {
					buffers[i] = make([]byte, chunk)
				}
				b.SetBytes(int64(clients) * benchSize)
				b.ReportAllocs()
				for b.Loop() {
					if how != "warm" {
						b.StopTimer()
						bench.settled()
						if err := bench.blobs.Remove(digest); err != nil {
							b.Fatal(err)
						}
						b.StartTimer()
					}
					var all sync.WaitGroup
					for _, buffer := range buffers {
						all.Go(func() { drain(b, bench, digest, src, buffer) })
					}
					all.Wait()
				}
				bench.settled()
			})
		}
	}
}

func drain(b testing.TB, bench *bench, digest string, src Source, buffer []byte) {
	r, err := bench.Open(b.Context(), digest, 0, src)
	if err != nil {
		b.Error(err)
		return
	}
	defer func() { _ = r.Close() }()
	if n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, r, buffer); n != benchSize || err != nil {
		b.Errorf("%d bytes, %v", n, err)
	}
}

// TestNothingIsAllocatedForAChunk: neither by who brings it nor by who reads it.
func TestNothingIsAllocatedForAChunk(t *testing.T) {
	b := newBench(t, func(c *Config) { c.Keep = 1 << 40 })
	data := make([]byte, benchSize)
	digest := fmt.Sprintf("sha256:%x", sha256.Sum256(data))
	buffer := make([]byte, chunk)
	allocs := testing.AllocsPerRun(1, func() {
		_ = b.blobs.Remove(digest)
		drain(t, b, digest, &fast{data: data}, buffer)
		b.settled()
	})
	if chunks := float64(benchSize / chunk); allocs > chunks/10 {
		t.Errorf("%v allocations for %v chunks", allocs, chunks)
	}
}
