package kube

import (
	"context"
	"fmt"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"golang.org/x/sync/errgroup"

	"github.com/d8-registry/registry/test/harness/machine"
)

// DeckhouseTag is the tag of the image of Deckhouse itself; the others lie in
// the same repository, by digest alone.
const DeckhouseTag = "v1.72.3"

// platformImage is an image of the platform, as both registries hold it.
type platformImage struct {
	image  v1.Image
	digest string
	tag    string // of Deckhouse alone
}

// platformImages are the names of what runs in the cluster.
func platformImages() []string {
	return []string{deckhouseImage, "web/server", "web/migrate", "logger/agent", "store/server", "store/prepare", "report/job", "ondelete/agent", "paused/server"}
}

// makePlatform builds the platform's images and pushes them to its registries.
func (c *Cluster) makePlatform(ctx context.Context) error {
	if len(c.images) > 0 {
		return nil
	}
	program := c.Run.Path("programs", "component")
	if err := c.compile(ctx, "./test/e2e/programs/component", program); err != nil {
		return err
	}
	images := map[string]platformImage{}
	for _, image := range platformImages() {
		img, err := programImage(image, program)
		if err != nil {
			return err
		}
		digest, err := img.Digest()
		if err != nil {
			return fmt.Errorf("digest of %s: %w", image, err)
		}
		made := platformImage{image: img, digest: digest.String()}
		if image == deckhouseImage {
			made.tag = DeckhouseTag
		}
		images[image] = made
	}
	group, side := errgroup.WithContext(ctx)
	for _, g := range c.platformRegistries() {
		group.Go(func() error { return pushAll(side, g, images) })
	}
	if err := group.Wait(); err != nil {
		return err
	}
	c.images = images
	return nil
}

func pushAll(ctx context.Context, g *machine.Registry, images map[string]platformImage) error {
	to, err := newPusher(ctx, g, "")
	if err != nil {
		return err
	}
	for image, made := range images {
		var reference name.Reference = to.repository.Digest(made.digest)
		if made.tag != "" {
			reference = to.repository.Tag(made.tag)
		}
		if err := remote.Write(reference, made.image, to.options...); err != nil {
			return fmt.Errorf("push %s to %s: %w", image, g.Host, err)
		}
	}
	return nil
}

// Reference is an image of the platform, by its name, below a base: of a
// registry, or the fixed address.
func (c *Cluster) Reference(base, image string) (string, error) {
	made, ok := c.images[image]
	if !ok {
		return "", fmt.Errorf("the platform has no image %q", image)
	}
	if made.tag != "" {
		return base + ":" + made.tag, nil
	}
	return base + "@" + made.digest, nil
}
