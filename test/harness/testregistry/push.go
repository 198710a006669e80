package testregistry

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// PushRandom makes an image of random layers of the given size in bytes, stores
// it as repo:tag and returns it. No fault, no authentication and no counting
// is in the way.
func (r *Registry) PushRandom(t testing.TB, repo, tag string, layers, size int) v1.Image {
	t.Helper()
	img, err := random.Image(int64(size), int64(layers))
	if err != nil {
		t.Fatal(err)
	}
	r.Push(t, repo, tag, img)
	return img
}

// Push stores an image or an index, with all that belongs to it, as repo:tag.
func (r *Registry) Push(t testing.TB, repo, tag string, img remote.Taggable) {
	t.Helper()
	ref, err := name.NewTag("store.invalid/"+repo+":"+tag, name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Push(ref, img, remote.WithTransport(storeTransport{r.store}), remote.WithContext(t.Context())); err != nil {
		t.Fatal(err)
	}
}

// storeTransport hands requests to the store without any socket.
type storeTransport struct{ store http.Handler }

func (s storeTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	rec := httptest.NewRecorder()
	in := req.Clone(req.Context())
	in.RequestURI = in.URL.RequestURI()
	if in.Body == nil {
		in.Body = http.NoBody
	}
	s.store.ServeHTTP(rec, in)
	resp := rec.Result()
	resp.Request = req
	return resp, nil
}
