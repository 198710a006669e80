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

const (
	proxyStoryName = "proxy"
	// The negative controls of it: nodes have no way to the registry but the stores; agents give their
	// clients what the first store says; stores give out the last byte before the digest is known.
	storeOnly, noFallThrough, lastByte = "store-only", "no-fall-through", "last-byte"
	// calm is between two pulls of a node, for there are six of them.
	calm = 200 * time.Millisecond
	// newcomer joins when registry A is gone.
	newcomer = "worker-9"
	// fullNode and goneNode run a store on a disk of its own.
	fullNode, goneNode = "master-1", "master-2"
)

// proxyControls are the negative controls of the story, and what is broken.
func proxyControls() map[string]string {
	return map[string]string{
		storeOnly:     "nodes have no way to the registry but the stores; pulls must fail",
		noFallThrough: "agents give their clients what the first store says, and ask nobody else; pulls must fail",
		lastByte:      "stores give out the last byte of a layer before its digest is known; a client must get wrong bytes",
	}
}

// storeNodes are the nodes of the control plane: each runs a store.
func storeNodes() []string { return []string{"master-0", fullNode, goneNode} }

// extraImages are no part of the platform: no store has them before a node asks, and nobody
// pulls them but the steps that are about them. The numbers are bytes.
func extraImages() map[string]int {
	extra := map[string]int{killed: 48 << 20, "extra/gone": 16 << 20, "extra/full": 16 << 20}
	for i := range coldImages {
		extra[fmt.Sprintf("%s%d", cold, i)] = 1 << 20
	}
	for i := range liedImages {
		extra[fmt.Sprintf("%s%d", lied, i)] = 4 << 20
	}
	return extra
}

const (
	cold       = "extra/cold-"
	killed     = "extra/killed"
	coldImages = 24
)

func isExtra(i machine.Image) bool { return strings.HasPrefix(i.Name, "extra/") }

// storeSettings have stores keep little: the machine of the demo is small.
func storeSettings() []string { return []string{"--store-quota=512Mi", "--store-floor=4Mi"} }

// shape gives the story of the stores its nodes and images.
func (o options) shape(m *machine.Options) {
	if o.story != proxyStoryName {
		return
	}
	m.ControlPlane, m.Large = storeNodes(), extraImages()
	for name := range m.Large {
		m.Images = append(m.Images, name)
	}
}

// proxyStory goes through mode Proxy: three stores, of which one is killed, one has a full disk
// and one loses its disk; the registry gives wrong bytes, and is switched off for good; a node joins; then another
// registry, Direct, and back.
func proxyStory(ctx context.Context, d *demo) error {
	ctx, stop := context.WithCancel(ctx) // of the new node's puller too
	defer stop()
	err := d.tellProxy(ctx)
	return errors.Join(err, d.verdict())
}

func (d *demo) tellProxy(ctx context.Context) error {
	d.puller.SetPause(calm)
	for _, node := range []string{fullNode, goneNode} {
		if err := d.newDisk(ctx, node); err != nil {
			return err
		}
	}
	if err := d.breakStores(ctx); err != nil {
		return err
	}
	if err := d.begin(ctx); err != nil {
		return err
	}
	since, err := d.sentByA()
	if err != nil {
		return err
	}
	for _, s := range []struct {
		title string
		do    func(context.Context, *phase) error
	}{
		{"Proxy on A", d.reach("proxy-a.yaml", "Proxy")},
		{"every node pulls everything", func(ctx context.Context, p *phase) error { return d.pullEverything(ctx, p, len(since)) }},
		{"what no store has, on every node", func(ctx context.Context, p *phase) error { return d.pullCold(ctx, p, cold, nil) }},
		{"A gives wrong bytes", d.registryLies},
		{"a store killed in mid-fill", d.killInMidFill},
		{"a disk is gone", d.diskGone},
		{"a disk is full", d.diskFull},
		{"all stores killed", d.noStore},
		{"A switched off, a node joins", d.nodeJoins},
		{"Proxy on B", d.reach("proxy-b.yaml", "Proxy")},
		{"Direct on B", d.reach("direct-b.yaml", "Direct", "CleanupNodeServices")},
		{"Unmanaged on B", d.reach("unmanaged.yaml", "Unmanaged")},
	} {
		if err := d.play(ctx, &phase{title: s.title, short: true}, s.do); err != nil {
			return err
		}
	}
	return nil
}

// reach applies settings, and expects each step of their plan to be shown, and more after them.
func (d *demo) reach(file, mode string, more ...string) func(context.Context, *phase) error {
	return func(ctx context.Context, p *phase) error {
		if err := d.switchTo(ctx, p, file); err != nil {
			return err
		}
		s, err := d.readStatus(ctx)
		if err != nil {
			return err
		}
		var shown []string
		for _, c := range s.Conditions {
			if c.Type != "Ready" {
				shown = append(shown, c.Type)
			}
		}
		want := append(plans(mode), more...)
		p.expect("each step of the plan was shown, in order", slices.Equal(shown, want), "%v, want %v", shown, want)
		if mode == "Proxy" {
			return d.storesServe(ctx, p, false)
		}
		return nil
	}
}

// pullEverything has all nodes pull all images of the platform at once, and expects what is not
// on a node to come from the stores.
func (d *demo) pullEverything(ctx context.Context, p *phase, since int) error {
	resume := d.puller.Rest()
	before, err := d.sentByA()
	if err == nil {
		err = d.pullOn(ctx, p, d.cluster.Nodes, d.platformImages())
	}
	resume()
	if err != nil {
		return err
	}
	if err := d.storesServe(ctx, p, true); err != nil {
		return err
	}
	sent, err := d.sentByA()
	if err != nil {
		return err
	}
	s := sumOf(sent[since:], d.platformImages())
	d.out.step(p.began, "✓", green, "%d nodes have %d images; by its log A sent the stores %s since the switch began", len(d.cluster.Nodes), len(d.platformImages()), s)
	p.expect("A sent the stores each byte of the platform once, and a blob took at most 4 requests", s.bytes == s.want && s.requests <= 4, "%s", s)
	others := 0
	for _, dl := range sent[len(before):] {
		if !d.isStore(dl) {
			others++
		}
	}
	p.expect("no node but the stores pulled from A", others == 0, "%d blobs", others)
	return nil
}

// platformImages are the 157 of the platform.
func (d *demo) platformImages() []machine.Image {
	return slices.DeleteFunc(slices.Clone(d.cluster.Platform.Images), isExtra)
}

// pullOn has nodes forget images and pull them, side by side; what fails is recorded.
func (d *demo) pullOn(ctx context.Context, p *phase, nodes []*machine.Node, images []machine.Image) error {
	errs := make(chan error)
	for _, n := range nodes {
		go func() {
			var err error
			for _, image := range images {
				if err == nil {
					err = d.pullOne(ctx, p, n, image)
				}
			}
			errs <- err
		}()
	}
	var all error
	for range nodes {
		all = errors.Join(all, <-errs)
	}
	return all
}

// pullOne pulls as a pod of the platform would. Its error is that it could not be tried.
func (d *demo) pullOne(ctx context.Context, p *phase, n *machine.Node, image machine.Image) error {
	if err := n.Forget(ctx, image); err != nil {
		return err
	}
	reference := fixedName + "@" + image.Digest
	logins, err := machine.Logins(ctx, d.client, "d8-system", []string{"deckhouse-registry"}, reference)
	if err != nil {
		return err
	}
	began := time.Now()
	err = n.Pull(ctx, reference, logins[0])
	if ctx.Err() != nil {
		return ctx.Err()
	}
	d.recorder.Add(machine.Pull{
		Phase: p.title, Node: n.Name, Name: fixedName, Reference: reference, Image: image.Digest, At: began, Took: time.Since(began), Err: err,
	})
	return nil
}
