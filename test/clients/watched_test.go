package clients

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"hash"
	"io"
	"net/http"
	"path"
	"strings"
	"testing"
)

// watched sees to it that no blob is completed with other bytes where another registry
// has the right ones. A client that believes what is complete would keep them.
type watched struct {
	http.RoundTripper
	t   *testing.T
	two bool
}

func (w watched) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := w.RoundTripper.RoundTrip(req)
	if err == nil && w.two && req.Method == http.MethodGet && resp.StatusCode == http.StatusOK && strings.Contains(req.URL.Path, "/blobs/") {
		resp.Body = &watchedBody{resp.Body, sha256.New(), path.Base(req.URL.Path), w.t}
	}
	return resp, err
}

type watchedBody struct {
	io.ReadCloser
	hash   hash.Hash
	digest string
	t      *testing.T
}

func (b *watchedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.hash.Write(p[:n])
	if !errors.Is(err, io.EOF) {
		return n, err
	}
	if got := "sha256:" + hex.EncodeToString(b.hash.Sum(nil)); got != b.digest {
		b.t.Errorf("%s was completed as %s", b.digest, got)
	}
	return n, err
}
