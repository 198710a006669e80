package proxy

import (
	"fmt"
	"net/http"
	"sync"
	"testing"

	"github.com/d8-registry/registry/test/harness/testregistry"
)

// TestManyRepositoriesBehindOneRedirect: a registry that redirects all repositories
// to another path of its own hands out tokens for one repository each. No pull may
// get the token of another.
func TestManyRepositoriesBehindOneRedirect(t *testing.T) {
	t.Parallel()
	a := testregistry.New(t, testregistry.Options{
		Username: "u", Password: "p", Bearer: true, Inside: "/artifactory/api/docker/hub", InsideName: "hub/",
	})
	const repositories = 8
	for i := range repositories {
		a.PushRandom(t, fmt.Sprintf("team/a/tool%d", i), "v1", 1, 10)
	}
	s := start(t, Config{}, a.Upstream("team/a"))
	var wg sync.WaitGroup
	for i := range 80 {
		wg.Go(func() {
			got := s.get(fmt.Sprintf("/v2/system/deckhouse/tool%d/manifests/v1?%s", i%repositories, ns))
			if got.status != http.StatusOK {
				t.Errorf("pull %d: %d %s", i, got.status, got.body)
			}
		})
	}
	wg.Wait()
	before := a.TokenRequests()
	for i := range repositories {
		wantStatus(t, s.get(fmt.Sprintf("/v2/system/deckhouse/tool%d/manifests/v1?%s", i, ns)), http.StatusOK)
	}
	if again := a.TokenRequests() - before; again > 0 {
		t.Errorf("%d tokens were fetched again", again)
	}
}

// TestRepositoriesNamedAsTheAPI: a part of a repository's name may be a word of the
// API.
func TestRepositoriesNamedAsTheAPI(t *testing.T) {
	t.Parallel()
	a := testregistry.New(t, testregistry.Options{Username: "u", Password: "p", Bearer: true})
	img := a.PushRandom(t, "team/a/x/manifests/podinfo", "v1", 1, 10)
	s := start(t, Config{}, a.Upstream("team/a"))
	digest, content := blob(t, img)
	wantBlob(t, s.get("/v2/system/deckhouse/x/manifests/podinfo/blobs/"+digest+"?"+ns), content)
	for _, r := range a.Requests() {
		if r.Path == "/token" && r.Query != "scope=repository%3Ateam%2Fa%2Fx%2Fmanifests%2Fpodinfo%3Apull&service=testregistry" {
			t.Errorf("asked for a token by %s", r.Query)
		}
	}
}
