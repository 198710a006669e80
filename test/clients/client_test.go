package clients

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/test/harness/agenttest"
	"github.com/d8-registry/registry/test/harness/containerdtest"
	"github.com/d8-registry/registry/test/harness/fronts"
)

// client pulls what a route of one registry, or of two, serves.
type client interface {
	String() string
	// pulls is what of a content the client asks for.
	pulls(c content) []item
	// pull returns the digests of what the client then has, by the digest that was
	// asked for.
	pull(ctx context.Context, t *testing.T, c content, two bool) (map[string]string, error)
	// forget makes the next pull begin anew.
	forget(t *testing.T, c content)
}

// alone is the name that one registry serves; the fixed address has two.
func alone() layout.Name { return layout.Name{Host: "single.example.com:5000", Path: "app"} }

// node is a containerd with an agent. It pulls images by CRI, as kubelet does, and the
// rest by ctr.
type node struct {
	*agenttest.Node
}

func (n node) String() string {
	return "containerd " + string(n.Containerd.Version)
}

func (n node) pulls(c content) []item { return c.node }

func (n node) reference(c content, two bool) string {
	from := alone()
	if two {
		from = layout.Fixed()
	}
	return from.String() + "/" + c.name + ":" + tag
}

func (n node) byCRI(c content) bool { return c.name == "multi" }

func (n node) pull(ctx context.Context, t *testing.T, c content, two bool) (map[string]string, error) {
	t.Helper()
	if n.byCRI(c) {
		if _, err := n.CRI.PullImage(ctx, n.reference(c, two)); err != nil {
			return nil, err
		}
	} else if out, err := n.Containerd.Ctr(t, "content", "fetch", "--all-platforms", "--hosts-dir", n.Containerd.HostsDir, n.reference(c, two)); err != nil {
		return nil, fmt.Errorf("%w: %s", err, out[max(0, len(out)-600):])
	}
	return sums(c.node, func(i item) string { return n.blob(i) })
}

func (n node) blob(i item) string {
	return filepath.Join(n.Containerd.Dir, "root/io.containerd.content.v1.content/blobs/sha256", strings.TrimPrefix(i.digest, "sha256:"))
}

// forget removes all images: CRI gives what ctr fetched a name of its own, by its config,
// and artifacts have one config.
func (n node) forget(t *testing.T, c content) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; <-time.After(20 * time.Millisecond) {
		names := strings.Fields(n.ctr(t, "images", "ls", "-q"))
		if len(names) > 0 {
			_, _ = n.Containerd.Ctr(t, append([]string{"images", "rm", "--sync"}, names...)...) // CRI may have been first
		}
		left := slices.DeleteFunc(slices.Clone(c.node), func(i item) bool { _, err := os.Stat(n.blob(i)); return err != nil })
		if len(left) == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: %v is still there", n, left)
		}
		for _, i := range left {
			_, _ = n.Containerd.Ctr(t, "content", "rm", i.digest) // it may be gone by now
		}
	}
}

func (n node) ctr(t *testing.T, args ...string) string {
	t.Helper()
	out, err := n.Containerd.Ctr(t, args...)
	if err != nil {
		t.Fatal(err, out)
	}
	return out
}

// sums hashes the file of each item.
func sums(items []item, file func(item) string) (map[string]string, error) {
	got := map[string]string{}
	for _, i := range items {
		f, err := os.Open(file(i))
		if err != nil {
			return nil, fmt.Errorf("what was pulled is not there: %w", err)
		}
		got[i.digest], err = sum(f)
		if err := errors.Join(err, f.Close()); err != nil {
			return nil, err
		}
	}
	return got, nil
}

func sum(r io.Reader) (string, error) {
	hash := sha256.New()
	_, err := io.Copy(hash, r)
	return "sha256:" + hex.EncodeToString(hash.Sum(nil)), err
}

// pair are a front of two registries and one of a single one.
type pair struct{ two, one *fronts.Front }

func (p pair) of(two bool) *fronts.Front {
	if two {
		return p.two
	}
	return p.one
}

// library is go-containerregistry.
type library struct {
	pair
	through string
}

func (l library) String() string { return "go-containerregistry, " + l.through }

func (l library) pulls(c content) []item { return c.all }

func (l library) forget(*testing.T, content) {}

func (l library) pull(ctx context.Context, t *testing.T, c content, two bool) (map[string]string, error) {
	t.Helper()
	front := l.of(two)
	ref, err := name.NewTag(front.Address + "/" + layout.Fixed().Path + "/" + c.name + ":" + tag)
	if err != nil {
		return nil, err
	}
	got := map[string]string{}
	options := []remote.Option{remote.WithContext(ctx), remote.WithTransport(watched{front.Transport(t), t, two}), remote.WithAuth(authn.Anonymous)}
	if front.Username != "" {
		options = append(options, remote.WithAuth(&authn.Basic{Username: front.Username, Password: front.Password}))
	}
	d, err := remote.Get(ref, options...)
	if err != nil {
		return nil, err
	}
	got[c.all[0].digest], _ = sum(strings.NewReader(string(d.Manifest))) // of what is in memory
	if !d.MediaType.IsIndex() {
		image, err := d.Image()
		if err != nil {
			return nil, err
		}
		return got, readImage(image, got)
	}
	index, err := d.ImageIndex()
	if err != nil {
		return nil, err
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		return nil, err
	}
	for _, child := range manifest.Manifests {
		image, err := index.Image(child.Digest)
		if err != nil {
			return nil, err
		}
		raw, err := image.RawManifest()
		if err != nil {
			return nil, err
		}
		got[child.Digest.String()], _ = sum(strings.NewReader(string(raw))) // the same
		if err := readImage(image, got); err != nil {
			return nil, err
		}
	}
	return got, nil
}

func readImage(image v1.Image, got map[string]string) error {
	layers, err := image.Layers()
	if err != nil {
		return err
	}
	config, err := partial.ConfigLayer(image)
	if err != nil {
		return err
	}
	for _, layer := range append(layers, config) {
		digest, err := layer.Digest()
		if err != nil {
			return err
		}
		body, err := layer.Compressed()
		if err != nil {
			return err
		}
		got[digest.String()], err = sum(body)
		if err := errors.Join(err, body.Close()); err != nil {
			return err
		}
	}
	return nil
}

// skopeo copies into a layout of files, through the in-cluster proxy.
type skopeo struct {
	pair
	program string
}

func newSkopeo(t *testing.T, p pair) skopeo {
	t.Helper()
	program, err := filepath.Abs("../../.parts/skopeo/skopeo")
	if err == nil {
		_, err = os.Stat(program)
	}
	if err != nil {
		t.Fatalf("no skopeo; run: make parts: %v", err)
	}
	return skopeo{p, program}
}

func (s skopeo) String() string { return "skopeo, in-cluster proxy" }

func (s skopeo) pulls(c content) []item { return c.all }

func (s skopeo) forget(*testing.T, content) {}

func (s skopeo) pull(ctx context.Context, t *testing.T, c content, two bool) (map[string]string, error) {
	t.Helper()
	front := s.of(two)
	dir, err := os.MkdirTemp("", "skopeo")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	trust, to := filepath.Join(dir, "certs"), filepath.Join(dir, "to")
	if err := errors.Join(os.Mkdir(trust, 0o700), os.WriteFile(filepath.Join(trust, "ca.crt"), []byte(front.CA), 0o600)); err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, s.program, "copy", "--insecure-policy", "--all", "--preserve-digests", "--src-cert-dir", trust,
		"--src-creds", front.Username+":"+front.Password, "docker://"+front.Address+"/"+layout.Fixed().Path+"/"+c.name+":"+tag, "oci:"+to+":"+tag)
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%w: %s", err, out[max(0, len(out)-600):])
	}
	return sums(c.all, func(i item) string { return filepath.Join(to, "blobs", strings.Replace(i.digest, ":", "/", 1)) })
}

// newNode is a node whose agent serves both names.
func newNode(t *testing.T, v containerdtest.Version, l layout.Layout) node {
	t.Helper()
	n := prepared(t, v, "")
	n.Start()
	n.Publish(l)
	n.Until("the layout", reports)
	return n
}

// prepared is a node whose agent does not run yet, and whose containerd has these settings more.
func prepared(t *testing.T, v containerdtest.Version, settings string) node {
	t.Helper()
	c := containerdtest.NewVersion(t, v)
	c.Configure(t, "["+c.RegistryTable()+"]\n  config_path = \"@/certs.d\"\n"+settings)
	return node{agenttest.New(t, server.Start(t), c)}
}
