package main

import (
	"regexp"

	"github.com/d8-registry/registry/internal/testcluster"
)

// blobs by digest: those of images that workloads run, and those of the
// puller's.
type blobs struct{ running, spare map[string]bool }

func (d *demo) blobs() blobs {
	used := runningImages()
	b := blobs{running: map[string]bool{}, spare: map[string]bool{}}
	for _, image := range d.cluster.Platform.Images {
		kind := b.spare
		if used[image.Digest] || image.Name == deckhouseImage {
			kind = b.running
		}
		for _, blob := range image.Blobs {
			kind[blob] = true
		}
	}
	return b
}

// measureDownloads reads from the registries' logs what was sent during a phase.
func (d *demo) measureDownloads(p *phase) error {
	b := d.blobs()
	type sent struct{ to, digest string }
	seen := map[sent]bool{}
	var during []testcluster.Download
	for i, g := range d.cluster.Registries {
		all, err := g.Log.Downloads()
		if err != nil {
			return err
		}
		for _, dl := range all[:p.before.downloads[i]] {
			seen[sent{dl.Client, dl.Digest}] = true
		}
		during = append(during, all[p.before.downloads[i]:]...)
	}
	for _, dl := range during {
		switch {
		case b.spare[dl.Digest]:
			p.spareBlobs++
			p.spareBytes += dl.Bytes
		case b.running[dl.Digest] && seen[sent{dl.Client, dl.Digest}]:
			p.repeated++
		}
		seen[sent{dl.Client, dl.Digest}] = true
	}
	return nil
}

var byDigest = regexp.MustCompile(`@(sha256:[0-9a-f]{64})`)

// runningImages are the digests that workloads name.
func runningImages() map[string]bool {
	used := map[string]bool{}
	for _, file := range []string{"workloads.yaml", "controller.yaml", "gitops.yaml"} {
		data, err := manifests.ReadFile(file)
		if err != nil {
			panic(err) // embedded
		}
		for _, m := range byDigest.FindAllStringSubmatch(string(data), -1) {
			used[m[1]] = true
		}
	}
	return used
}
