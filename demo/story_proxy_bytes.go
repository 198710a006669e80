package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/d8-registry/registry/test/harness/machine"
)

// sentByA is all that registry A sent so far.
func (d *demo) sentByA() ([]machine.Download, error) { return d.cluster.Registries[0].Log.Downloads() }

// isStore reports whether a store, and not a containerd, was sent something. The agent of a
// node with a store calls itself the same: what it pulls past the stores counts as theirs.
func (d *demo) isStore(dl machine.Download) bool {
	node, ok := d.cluster.NodeByIP(dl.Client)
	return ok && dl.Agent == ourAgent && slices.Contains(storeNodes(), node)
}

// sums are what A sent of some images, past all containerds.
type sums struct {
	bytes, want int64
	requests    int // of the blob that was asked for most often
}

func (s sums) times() float64 { return float64(s.bytes) / float64(s.want) }

func (s sums) String() string {
	return fmt.Sprintf("%.1f MB of %.1f MB, %.2f ×, at most %d requests a blob", float64(s.bytes)/1e6, float64(s.want)/1e6, s.times(), s.requests)
}

func sumOf(sent []machine.Download, images []machine.Image) (s sums) {
	bytes, requests := map[string]int64{}, map[string]int{}
	for _, dl := range sent {
		if dl.Agent == ourAgent {
			bytes[dl.Digest] += dl.Bytes
			requests[dl.Digest]++
		}
	}
	for _, image := range images {
		s.want += image.Bytes
		for _, blob := range image.Blobs {
			s.bytes, s.requests = s.bytes+bytes[blob], max(s.requests, requests[blob])
		}
	}
	return s
}

// pullCold has every node pull images at once that no store has, and expects A to send each byte
// once. Meanwhile something may happen, which says how many bytes it may cost.
func (d *demo) pullCold(ctx context.Context, p *phase, prefix string, meanwhile func(context.Context, machine.Image) (int64, error)) error {
	images := slices.DeleteFunc(slices.Clone(d.cluster.Platform.Images), func(i machine.Image) bool { return !strings.HasPrefix(i.Name, prefix) })
	before, err := d.sentByA()
	if err != nil {
		return err
	}
	pulled := make(chan error, 1)
	go func() { pulled <- d.pullOn(ctx, p, d.cluster.Nodes, images) }()
	var cost int64
	var happened error
	if meanwhile != nil {
		cost, happened = meanwhile(ctx, images[0])
	}
	if err := errors.Join(happened, <-pulled); err != nil {
		return err
	}
	s, err := d.sentOf(ctx, images, len(before))
	if err != nil {
		return err
	}
	d.out.step(p.began, "✓", green, "%d nodes pulled %d image(s) at once; by its log A sent %s", len(d.cluster.Nodes), len(images), s)
	if meanwhile == nil {
		p.expect("of what no store had A sent each byte once, however many nodes asked", s.bytes == s.want && s.requests <= 4, "%s", s)
	} else {
		p.expect(fmt.Sprintf("what happened meanwhile (%s) cost A no more than it must", p.title), s.bytes <= s.want+cost, "%s, and no more than %.1f MB", s, float64(s.want+cost)/1e6)
	}
	return nil
}

// sentOf is what A sent of images. It writes into its log when it has sent all, a moment after
// the client has all.
func (d *demo) sentOf(ctx context.Context, images []machine.Image, since int) (s sums, err error) {
	for range 20 {
		sent, err := d.sentByA()
		if err != nil {
			return s, err
		}
		if s = sumOf(sent[since:], images); s.bytes >= s.want {
			break
		}
		select {
		case <-ctx.Done():
			return s, ctx.Err()
		case <-time.After(lookEvery):
		}
	}
	return s, nil
}
