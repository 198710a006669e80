package main

import (
	"regexp"

	"github.com/d8-registry/registry/test/harness/machine"
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

// everyPullWasSent compares the puller's pulls of the whole run with what the
// registries' logs say: a pull that ends between the two looks only adds to the
// latter.
func (d *demo) everyPullWasSent(p *phase) error {
	if d.options.story == proxyStoryName {
		return nil // stores send them; what registries send is counted by the story
	}
	pulled := 0
	for _, pull := range d.recorder.All() {
		if pull.Err == nil && pull.By == "" {
			pulled += blobsPerImage
		}
	}
	b := d.blobs()
	sent := 0
	for _, g := range d.cluster.Registries {
		all, err := g.Log.Downloads()
		if err != nil {
			return err
		}
		for _, dl := range all {
			if b.spare[dl.Digest] {
				sent++
			}
		}
	}
	p.expect("every pull was sent by a registry, by its log", sent >= pulled, "%d blobs were sent, %d were pulled", sent, pulled)
	return nil
}

// blobsPerImage are a config and a layer.
const blobsPerImage = 2

// measureDownloads reads from the registries' logs what was sent during a phase.
func (d *demo) measureDownloads(p *phase) error {
	b := d.blobs()
	type sent struct{ to, digest string }
	to := func(dl machine.Download) string {
		if d.options.story == proxyStoryName {
			return dl.Client + " " + dl.Agent // a node, and the store on it
		}
		return dl.Client
	}
	seen := map[sent]bool{}
	var during []machine.Download
	for i, g := range d.cluster.Registries {
		all, err := g.Log.Downloads()
		if err != nil {
			return err
		}
		for _, dl := range all[:p.before.downloads[i]] {
			seen[sent{to(dl), dl.Digest}] = true
		}
		during = append(during, all[p.before.downloads[i]:]...)
	}
	for _, dl := range during {
		if _, node := d.cluster.NodeByIP(dl.Client); !node {
			p.viaProxy++
		}
		switch {
		case b.spare[dl.Digest]:
			p.bytes += dl.Bytes
		case b.running[dl.Digest] && seen[sent{to(dl), dl.Digest}]:
			p.repeated++
		}
		seen[sent{to(dl), dl.Digest}] = true
	}
	return d.everyPullWasSent(p)
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
