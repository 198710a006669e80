package judge

import (
	"bytes"
	"compress/gzip"
	"io"
	"net/http"
	"runtime"
	"testing"
)

// TestABombIsNotDecoded: what is small on the wire takes no more memory than a manifest.
func TestABombIsNotDecoded(t *testing.T) { // alone: it counts what the process allocates
	var bomb bytes.Buffer
	z := gzip.NewWriter(&bomb)
	for range 256 {
		if _, err := z.Write(make([]byte, 1<<20)); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err := ReadBody(&http.Response{Header: http.Header{"Content-Encoding": {"gzip"}}, Body: io.NopCloser(&bomb)})
	runtime.ReadMemStats(&after)
	if took := after.TotalAlloc - before.TotalAlloc; err == nil || took > 64<<20 {
		t.Errorf("%d MiB were allocated: %v", took>>20, err)
	}
}
