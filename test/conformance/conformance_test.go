package conformance

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/d8-registry/registry/internal/upstream"
	"github.com/d8-registry/registry/test/harness/apiserver"
	"github.com/d8-registry/registry/test/harness/fronts"
	"github.com/d8-registry/registry/test/harness/parts"
	"github.com/d8-registry/registry/test/harness/realregistry"
	"github.com/d8-registry/registry/test/harness/testregistry"
)

var server apiserver.Server

func TestMain(m *testing.M) { os.Exit(server.Main(m)) }

// registry is one that is asked alone and through us.
type registry struct {
	name  string
	start func(*testing.T) pushable
	// fails and skips are what it does not pass itself. Through us the same fails, but
	// for what is mended: no more, and no less, or the list is out of date.
	fails, skips, mended []string
	// passes is how many tests it passes itself.
	passes int
}

type pushable interface {
	Upstream(path string) upstream.Upstream
	Push(t testing.TB, repository, tag string, what remote.Taggable)
}

func registries() []registry {
	return []registry{
		{
			name:  "distribution",
			start: func(t *testing.T) pushable { return realregistry.Start(t, false) },
			fails: []string{
				// It has no referrers.
				"artifacts-with-subject/referrers", "empty/referrers", "index-with-subject/referrers", "missing-subject/referrers",
				"read-only/referrers",
				// It does not take such an image.
				"non-distributable-layers/head/manifest-head-by-digest", "non-distributable-layers/head/manifest-head-by-tag",
				"non-distributable-layers/pull/manifest-by-digest", "non-distributable-layers/pull/manifest-by-tag",
				"non-distributable-layers/tag-list",
				// It calls a blob by its sha256, and takes no manifest by sha512.
				"sha512 blobs/empty/blob-get", "sha512 blobs/empty/blob-head",
				"sha512 blobs/emptyJSON/blob-get", "sha512 blobs/emptyJSON/blob-head",
				"sha512/head/blob-head", "sha512/pull/blob-get",
				"sha512/head/manifest-head-by-digest", "sha512/pull/manifest-by-digest",
			},
			passes: 151,
		},
		{
			name: "testregistry",
			start: func(t *testing.T) pushable {
				return testregistry.New(t, testregistry.Options{TLS: true, Username: "u", Password: "p"})
			},
			fails: []string{
				// It has no blobs by sha512, and calls a manifest by its sha256.
				"sha512 blobs/empty/blob-get", "sha512 blobs/emptyJSON/blob-get", "sha512 blobs/get-missing", "sha512/pull/blob-get",
				"sha512/head/manifest-head-by-digest", "sha512/pull/manifest-by-digest",
				// It knows no referrers in a repository that it does not have.
				"empty/referrers",
				// It takes anything for a digest.
				"invalid-digest-format/manifest-get",
			},
			mended: []string{
				"sha512/head/manifest-head-by-digest", "sha512/pull/manifest-by-digest", "invalid-digest-format/manifest-get",
			},
			// It does not filter referrers.
			skips:  []string{"artifacts-with-subject/referrers", "index-with-subject/referrers", "missing-subject/referrers"},
			passes: 134,
		},
	}
}

// TestConformance runs the whole suite, with pushes straight to the registry, and then
// as a read-only registry is tested: with what was pushed before.
func TestConformance(t *testing.T) {
	t.Parallel()
	parts.Need(t)
	api := server.Start(t)
	for _, r := range registries() {
		t.Run(r.name, func(t *testing.T) {
			t.Parallel()
			running := r.start(t)
			u := running.Upstream("team")
			data := pushed(t, running)
			agent, proxy := fronts.Agent(t, api, u), fronts.Proxy(t, api, u)
			t.Run("alone", func(t *testing.T) {
				t.Parallel()
				found := findings{}
				found.suite(t, whole(t, u, nil, "alone")...)
				found.suite(t, append(data, through(t, u, nil)...)...)
				check(t, found, r.fails, r.skips, r.passes)
			})
			t.Run("agent", func(t *testing.T) {
				t.Parallel()
				found := findings{}
				found.suite(t, whole(t, u, agent, "agent")...)
				found.suite(t, append(data, through(t, u, agent)...)...)
				check(t, found, without(r.fails, r.mended), r.skips, r.passes+len(r.mended))
			})
			t.Run("in-cluster proxy", func(t *testing.T) {
				t.Parallel()
				found := findings{}
				found.suite(t, whole(t, u, proxy, "proxy")...)
				found.suite(t, append(data, itself(t, proxy)...)...)
				check(t, found, without(r.fails, r.mended), r.skips, r.passes+len(r.mended))
			})
		})
	}
}

func without(all, some []string) []string {
	return slices.DeleteFunc(slices.Clone(all), func(s string) bool { return slices.Contains(some, s) })
}

// pushed puts an image and an artifact that refers to it into a registry, and returns
// what the suite must know of them.
func pushed(t *testing.T, r pushable) (env []string) {
	t.Helper()
	index := must(random.Index(1000, 2, 2))
	artifact, ok := mutate.Subject(must(random.Image(1000, 1)), *must(partial.Descriptor(index))).(v1.Image)
	if !ok {
		t.Fatal("an artifact is no image")
	}
	r.Push(t, "team/readonly", "v1", index)
	r.Push(t, "team/readonly", "artifact", artifact)
	manifests := []string{must(index.Digest()).String(), must(artifact.Digest()).String()}
	for _, child := range must(index.IndexManifest()).Manifests {
		manifests = append(manifests, child.Digest.String())
	}
	blobs := []string{must(artifact.ConfigName()).String()}
	for _, layer := range must(artifact.Layers()) {
		blobs = append(blobs, must(layer.Digest()).String())
	}
	return slices.Clip([]string{
		"OCI_API_PUSH=false", "OCI_API_TAGS_DELETE=false", "OCI_API_MANIFESTS_DELETE=false", "OCI_API_BLOBS_DELETE=false",
		"OCI_REPO1=system/deckhouse/readonly", "OCI_RO_DATA_TAGS=v1 artifact", "OCI_RO_DATA_MANIFESTS=" + strings.Join(manifests, " "),
		"OCI_RO_DATA_BLOBS=" + strings.Join(blobs, " "), "OCI_RO_DATA_REFERRERS=" + manifests[0],
	})
}

// whole is the whole suite in repositories of its own. Blobs stay: others have the same,
// and testregistry keeps them for all repositories.
func whole(t *testing.T, u upstream.Upstream, front *fronts.Front, repositories string) (env []string) {
	t.Helper()
	return append(through(t, u, front), "OCI_API_MANIFESTS_DIGEST_HEADER=true", "OCI_API_BLOBS_DELETE=false",
		"OCI_REPO1=system/deckhouse/"+repositories+"/one", "OCI_REPO2=system/deckhouse/"+repositories+"/two")
}

func through(t *testing.T, u upstream.Upstream, front *fronts.Front) (env []string) {
	t.Helper()
	return []string{"OCI_TLS=disabled", "OCI_REGISTRY=" + newSplit(t, u, front)}
}

// itself has the suite ask a front by TLS and with credentials.
func itself(t *testing.T, front *fronts.Front) (env []string) {
	t.Helper()
	ca := filepath.Join(t.TempDir(), "ca.crt")
	if err := os.WriteFile(ca, []byte(front.CA), 0o600); err != nil {
		t.Fatal(err)
	}
	return []string{"OCI_TLS=enabled", "SSL_CERT_FILE=" + ca, "OCI_REGISTRY=" + front.Address, "OCI_USERNAME=" + front.Username, "OCI_PASSWORD=" + front.Password}
}

// check compares what was found with what may fail.
func check(t *testing.T, found findings, fails, skips []string, passes int) {
	t.Helper()
	count := 0
	for name, f := range found {
		want := passed
		switch {
		case slices.Contains(fails, name):
			want = failed
		case slices.Contains(skips, name):
			want = skipped
		}
		if f.outcome == passed {
			count++
		}
		if f.outcome != want {
			t.Errorf("%s: %s, want %s: %s", name, f.outcome, want, f.why)
		}
	}
	for _, name := range slices.Concat(fails, skips) {
		if _, ok := found[name]; !ok {
			t.Errorf("%s: the suite has no such test", name)
		}
	}
	if count != passes {
		t.Errorf("%d tests passed, want %d", count, passes)
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err) // of what is in memory
	}
	return v
}
