package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/d8-registry/registry/internal/datapath/store/owner"
	"github.com/d8-registry/registry/test/harness/machine"
)

const (
	// storePod is the static pod of a store, and storeFolder what it keeps.
	storePod    = "registry-nodeservices"
	storeFolder = "/opt/deckhouse/registry"
	// diskFolder is where a disk of its own is mounted for others too.
	diskFolder = "/opt/deckhouse"
	diskSize   = "96m"
	// ourAgent is what stores and agents call themselves.
	ourAgent = "d8-registry"
	// slowly is how fast A sends while a store is killed: there is a middle then.
	slowly = "rate 160mbit burst 256kb latency 400ms"
)

// newDisk mounts an empty disk where a node's store keeps things.
func (d *demo) newDisk(ctx context.Context, node string) error {
	return d.shell(ctx, node, "mkdir -p "+diskFolder+" && mount -t tmpfs -o size="+diskSize+",mode=0755 demo-disk "+diskFolder)
}

// shell runs a line on a node.
func (d *demo) shell(ctx context.Context, node, line string) error {
	n, err := d.cluster.Node(node)
	if err != nil {
		return err
	}
	if out, err := n.Space.Command(ctx, "/bin/sh", "-c", line).CombinedOutput(); err != nil {
		return fmt.Errorf("%s on %s: %w: %s", line, node, err, out)
	}
	return nil
}

// killInMidFill kills the store that fetches a layer for all, when it has a part of it.
func (d *demo) killInMidFill(ctx context.Context, p *phase) error {
	a := d.cluster.Registries[0].Space
	if out, err := a.Command(ctx, strings.Fields("tc qdisc add dev eth0 root tbf "+slowly)...).CombinedOutput(); err != nil {
		return fmt.Errorf("slow A down: %w: %s", err, out)
	}
	err := d.pullCold(ctx, p, killed, func(ctx context.Context, image machine.Image) (int64, error) {
		node, at, err := d.killFiller(ctx, image)
		if err == nil {
			d.out.step(p.began, "✗", yellow, "the store of %s, which fetched the layer, was killed when it had %.1f of %d MiB", node, float64(at)/(1<<20), image.Bytes>>20)
		}
		return at + image.Bytes/4, err // some was on its way
	})
	if out, errFast := a.Command(ctx, strings.Fields("tc qdisc del dev eth0 root")...).CombinedOutput(); errFast != nil {
		err = errors.Join(err, fmt.Errorf("let A be fast again: %w: %s", errFast, out))
	}
	if err != nil {
		return err
	}
	return d.storesServe(ctx, p, false)
}

// noStore kills all stores and keeps them from coming back while nodes pull. With BREAK=store-only
// nodes have no other way to A, and pulls must fail.
func (d *demo) noStore(ctx context.Context, p *phase) error {
	if d.options.broken == storeOnly {
		for _, n := range d.cluster.Nodes {
			if err := d.shell(ctx, n.Name, "ip route add unreachable "+d.cluster.Registries[0].Space.IP.String()+"/32"); err != nil {
				return err
			}
		}
	}
	off := func(off bool) error {
		for _, node := range storeNodes() {
			pods, err := d.standins.StaticPods(node)
			if err != nil {
				return err
			}
			pods.Off(off)
		}
		return nil
	}
	if err := off(true); err != nil {
		return err
	}
	d.out.step(p.began, "✗", yellow, "all stores were killed")
	if err := d.enoughPulls(ctx, p); err != nil || d.shown(p) {
		return err
	}
	pulled := len(d.recorder.Pulls(p.title))
	d.out.step(p.began, "✓", green, "%d pulls without any store; now they may start again", pulled)
	if err := off(false); err != nil {
		return err
	}
	return d.storesServe(ctx, p, false)
}

func (d *demo) killFiller(ctx context.Context, image machine.Image) (string, int64, error) {
	layer := image.Blobs[1]
	byEndpoint := map[string]*machine.Node{}
	var endpoints []string
	for _, name := range storeNodes() {
		n, err := d.cluster.Node(name)
		if err != nil {
			return "", 0, err
		}
		at := n.Space.IP.String() + ":5001"
		endpoints, byEndpoint[at] = append(endpoints, at), n
	}
	n := byEndpoint[owner.Of(layer, endpoints)[0]]
	ctx, cancel := context.WithTimeout(ctx, readyWithin/2)
	defer cancel()
	var had int64
	if err := d.until(ctx, "a part of the layer on "+n.Name, func(context.Context) error {
		if had = partial(n); had < image.Bytes/8 {
			return fmt.Errorf("%d bytes of %d", had, image.Bytes)
		}
		return nil
	}); err != nil {
		return "", 0, err
	}
	pods, err := d.standins.StaticPods(n.Name)
	if err != nil {
		return "", 0, err
	}
	return n.Name, had, pods.Kill(storePod)
}

// partial is how much of what comes is on the disk of a node's store.
func partial(n *machine.Node) (bytes int64) {
	for _, info := range stored(n, "partial/*") {
		bytes += info.Sys().(*syscall.Stat_t).Blocks * 512
	}
	return bytes
}

// stored are files of a node's store.
func stored(n *machine.Node, pattern string) (found []os.FileInfo) {
	names, err := filepath.Glob(filepath.Join("/proc", strconv.Itoa(n.Space.PID()), "root", storeFolder, pattern))
	if err != nil {
		return nil
	}
	for _, name := range names {
		if info, err := os.Stat(name); err == nil && info.Mode().IsRegular() {
			found = append(found, info)
		}
	}
	return found
}

// diskGone kills a store and takes its disk away. It comes again with an empty folder, and has what
// it should have from the other stores.
func (d *demo) diskGone(ctx context.Context, p *phase) error {
	pods, err := d.standins.StaticPods(goneNode)
	if err != nil {
		return err
	}
	n, err := d.cluster.Node(goneNode)
	if err != nil {
		return err
	}
	before, err := d.sentByA()
	if err != nil {
		return err
	}
	pods.Off(true)
	if err := d.shell(ctx, goneNode, "umount "+diskFolder+" && rm -rf "+storeFolder); err != nil {
		return err
	}
	d.out.step(p.began, "✗", yellow, "the store of %s was killed, and its disk is gone", goneNode)
	err = d.pullCold(ctx, p, "extra/gone", func(context.Context, machine.Image) (int64, error) { return 0, nil })
	defer d.puller.Rest()() // what a node waits for is fetched where it is surely
	pods.Off(false)
	if err != nil {
		return err
	}
	d.out.step(p.began, "→", bold, "it may start again")
	within, cancel := context.WithTimeout(ctx, readyWithin)
	defer cancel()
	least := len(d.platformImages())
	if err := d.until(within, "what it should have", func(context.Context) error {
		if kept := len(stored(n, "blobs/sha256/*")); kept < least {
			return fmt.Errorf("%d files, want %d", kept, least)
		}
		return nil
	}); err != nil {
		return err
	}
	if err := d.storesServe(ctx, p, true); err != nil {
		return err
	}
	sent, err := d.sentByA()
	if err != nil {
		return err
	}
	its := slices.DeleteFunc(slices.Clone(sent[len(before):]), func(dl machine.Download) bool { return dl.Client != n.Space.IP.String() })
	s := sumOf(its, d.platformImages())
	d.out.step(p.began, "✓", green, "it has them from the other stores: A sent that node %s", s)
	p.expect("a store that lost its disk had nothing from A that another store has", s.bytes == 0, "%s", s)
	return nil
}

// diskFull has others fill the disk of a store.
func (d *demo) diskFull(ctx context.Context, p *phase) error {
	if err := d.shell(ctx, fullNode, "cat /dev/zero >"+diskFolder+"/of-others 2>/dev/null; test -s "+diskFolder+"/of-others"); err != nil {
		return err
	}
	d.out.step(p.began, "✗", yellow, "the disk of the store of %s is full", fullNode)
	return d.pullCold(ctx, p, "extra/full", func(_ context.Context, image machine.Image) (int64, error) {
		return int64(len(d.cluster.Nodes)-1) * image.Bytes, nil // as if there were no stores
	})
}

// nodeJoins switches A off for good, and has a node join: with the module's image, for there is
// nobody else whom its containerd knows before an agent runs.
func (d *demo) nodeJoins(ctx context.Context, p *phase) error {
	d.cluster.Registries[0].Stop()
	d.out.step(p.began, "✗", yellow, "%s is switched off for good", registryA)
	n, err := d.cluster.AddNode(ctx, newcomer)
	if err != nil {
		return err
	}
	digest := ownDigest()
	if err := n.ComeWith(ctx, registryA+"/"+pathA+"@"+digest, registryB+"/"+pathB+"@"+digest, machine.Login{Username: "mirror-puller", Password: "of-the-mirror"}); err != nil {
		return err
	}
	if err := d.cluster.CreateNode(ctx, d.client, n); err != nil {
		return err
	}
	d.out.step(p.began, "→", bold, "%s joins; the module's image was on its disk, for an agent must run before a node knows the stores", newcomer)
	caught, cancel := context.WithTimeout(ctx, readyWithin)
	defer cancel()
	if err := d.until(caught, newcomer+" to be open", func(ctx context.Context) error { return d.open(ctx, newcomer) }); err != nil {
		return err
	}
	p.opened = time.Now()
	if err := d.provesByAStore(caught, p, newcomer); err != nil {
		return err
	}
	early := slices.DeleteFunc(d.recorder.Failed(p.title), func(pull machine.Pull) bool { return !p.early(pull) })
	d.out.step(p.began, "✓", green, "pods may come to %s; %d pulls failed before, of pods that tolerate every taint and did not wait for the agent", newcomer, len(early))
	if err := d.pullOn(ctx, p, []*machine.Node{n}, d.platformImages()); err != nil {
		return err
	}
	got := 0
	for _, pull := range d.recorder.Pulls(p.title) {
		if pull.Node == newcomer && pull.By == "" && pull.Err == nil {
			got++
		}
	}
	d.out.step(p.began, "✓", green, "%s has %d of %d images", newcomer, got, len(d.platformImages()))
	p.expect("the new node got all images, each at the first attempt", got == len(d.platformImages()), "%d of %d", got, len(d.platformImages()))
	joined := machine.NewPuller([]*machine.CRI{n.CRI}, d.client, d.view, d.recorder, d.bases(), d.spareImages())
	joined.SetPause(calm)
	d.background(ctx, joined.Run)
	return nil
}

// open reports whether pods may come to a node: its containerd is led by the layout that is wanted.
func (d *demo) open(ctx context.Context, node string) error {
	status, err := d.registryNode(ctx, node, "status")
	if err != nil {
		return err
	}
	var o corev1.Node
	if err := d.client.Get(ctx, types.NamespacedName{Name: node}, &o); err != nil {
		return fmt.Errorf("read Node %s: %w", node, err)
	}
	served, _, _ := unstructured.NestedInt64(status, "served")
	proved, _, _ := unstructured.NestedInt64(status, "generation")
	if max(served, proved) == 0 || len(o.Spec.Taints) > 0 {
		return fmt.Errorf("%s serves layout %d and has taints %v", node, max(served, proved), o.Spec.Taints)
	}
	return nil
}

// provesByAStore waits until a node reports the layout, which it cannot prove by registry A.
func (d *demo) provesByAStore(ctx context.Context, p *phase, node string) error {
	var proved int64
	said := ""
	err := d.until(ctx, node+" to prove the layout", func(ctx context.Context) error {
		status, err := d.registryNode(ctx, node, "status")
		if err != nil {
			return err
		}
		if proved, _, _ = unstructured.NestedInt64(status, "generation"); proved == 0 {
			return fmt.Errorf("%s reports: %v", node, status["message"])
		}
		said = ""
		upstreams, _, _ := unstructured.NestedSlice(status, "upstreams")
		for _, u := range upstreams {
			if of, ok := u.(map[string]any); ok {
				said += fmt.Sprint(of["message"])
			}
		}
		return nil
	})
	if err == nil {
		d.out.step(p.began, "✓", green, "%s has proved layout %d: %s", node, proved, said)
	}
	p.expect("a node that joins without the registry proves the layout by a store", err == nil && strings.Contains(said, "stands in for it"), "generation %d, %q, %v", proved, said, err)
	return err
}

func (d *demo) registryNode(ctx context.Context, node, field string) (map[string]any, error) {
	var o unstructured.Unstructured
	o.SetAPIVersion("registry.deckhouse.io/v1alpha1")
	o.SetKind("RegistryNode")
	if err := d.client.Get(ctx, types.NamespacedName{Name: node}, &o); err != nil {
		return nil, fmt.Errorf("read RegistryNode %s: %w", node, err)
	}
	part, _, err := unstructured.NestedMap(o.Object, field)
	return part, err
}

// storesServe waits until all three stores serve, and have what they are to have.
func (d *demo) storesServe(ctx context.Context, p *phase, all bool) error {
	ctx, cancel := context.WithTimeout(ctx, readyWithin)
	defer cancel()
	var have []string
	err := d.until(ctx, "three stores", func(ctx context.Context) error {
		have = nil
		for _, node := range storeNodes() {
			status, err := d.registryNode(ctx, node, "status")
			if err != nil {
				return err
			}
			store, _, _ := unstructured.NestedMap(status, "store")
			cached, _, _ := unstructured.NestedInt64(store, "cached")
			wanted, _, _ := unstructured.NestedInt64(store, "wanted")
			if store["state"] != "Serving" || all && (cached < wanted || wanted == 0) {
				return fmt.Errorf("the store of %s: %v", node, store)
			}
			n, err := d.cluster.Node(node)
			if err != nil {
				return err
			}
			if err := listens(ctx, n.Space, n.Space.IP.String()+":5001"); err != nil { // its report may be of before
				return fmt.Errorf("the store of %s: %w", node, err)
			}
			have = append(have, fmt.Sprintf("%s %d of %d", node, cached, wanted))
		}
		return nil
	})
	if err == nil {
		d.out.step(p.began, "✓", green, "three stores serve, with of the images in use: %s", strings.Join(have, ", "))
	}
	p.expect("three stores serve at the end", err == nil, "%v", err)
	return err
}
