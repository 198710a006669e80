package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"syscall"
	"time"
)

// storeScale is how much one measurement of a cache takes in.
type storeScale struct {
	scale

	cold map[int]int64 // bytes of the layer that so many clients ask for
}

func fullStores() storeScale {
	s := full()
	s.rounds = 3
	return storeScale{s, map[int]int64{1: layerSize, 8: layerSize, 64: smallSize}}
}

func shortStores() storeScale {
	s := short()
	s.rounds = 1
	return storeScale{s, map[int]int64{1: smallSize, 8: smallSize, 64: tinySize}}
}

// The metrics of caches. Those of cold rows have the number of clients before them.
const (
	egress, answers = "bytes from the registry, times the layer", "answers of the registry"
	took            = "seconds"
	coldWarm        = "cold / warm"
	joined          = "first byte of the slowest of 8 that ask at once, ms"
	joinedBusy      = "the same of a registry that keeps the processors busy, ms"
	warm1, warm16   = "warm layer, 1 client, MB/s", "warm layer, 16 clients, MB/s"
	streams         = "900 downloads at a time of 20 clients, MiB above idle"
	killed          = "kill -9 until it serves, ms"
)

// caching are processes that are one cache, and what they are measured in.
type caching struct {
	*place
	name   string
	folder string
	all    []*system
	size   storeScale
}

// storeRow is one way to use a cache that has nothing yet.
type storeRow struct {
	name    string
	of      []string // the makers that it is for; nil is all
	measure func(context.Context, *caching) (map[string]float64, error)
}

func storeRows() []storeRow {
	one := []string{cacheLock, cacheSlice, cache, ourStore}
	return []storeRow{
		{"1 client", nil, cold(1, 1)}, {"8 clients", nil, cold(8, 1)}, {"64 clients", nil, cold(64, 1)},
		{"8 clients, 4 ranges each", nil, cold(8, 4)},
		{"first byte", one, joinsAtOnce},
		{"warm", one, warmLayers},
		{"manifests", []string{ourStore}, storeManifests},
		{"memory", []string{ourStore}, storeMemory},
		{"killed", []string{ourStore}, killedStore},
	}
}

// begin has clients connect, each to another process than the one before.
func (c *caching) begin(ctx context.Context, clients int) ([]*client, error) {
	all := make([]*client, clients)
	var failed error
	for i := range all {
		s := c.all[i%len(c.all)]
		var err error
		if all[i], err = dialFrom(ctx, s, i); err == nil {
			_, err = all[i].get(c.manifestOf(s), func(int) bool { return true })
		}
		failed = errors.Join(failed, err)
	}
	return all, failed
}

// pulled has clients ask for a layer, each with so many open ranges at a time, and returns when all of
// them have it. first is the slowest first byte.
func (c *caching) pulled(ctx context.Context, clients, parts int, layer int64) (took, first time.Duration, err error) {
	all, err := c.begin(ctx, clients*parts)
	defer closeAll(all)
	if err != nil {
		return 0, 0, err
	}
	firsts, failed := make([]time.Duration, len(all)), make([]error, len(all))
	var group sync.WaitGroup
	begun := time.Now()
	for i, one := range all {
		s := c.all[i%len(c.all)]
		from, header := layer/int64(parts)*int64(i/clients), ""
		if left := layer / int64(parts); parts > 1 {
			header = fmt.Sprintf("Range: bytes=%d-\r\n", from)
			group.Go(func() { // it reads its part, and leaves
				firsts[i], failed[i] = one.get(s.request("GET", "/blobs/"+c.content.blobs[layer], header), func(n int) bool {
					left -= int64(n)
					return left > 0
				})
			})
			continue
		}
		group.Go(func() {
			firsts[i], failed[i] = one.get(s.request("GET", "/blobs/"+c.content.blobs[layer], ""), func(int) bool { return true })
		})
	}
	group.Wait()
	return time.Since(begun), slices.Max(firsts), errors.Join(failed...)
}

// cold has clients ask for what is not there yet, and then once more.
func cold(clients, parts int) func(context.Context, *caching) (map[string]float64, error) {
	return func(ctx context.Context, c *caching) (map[string]float64, error) {
		name := fmt.Sprintf("%d clients: ", clients)
		if parts > 1 {
			name = fmt.Sprintf("%d clients, %d ranges each: ", clients, parts)
		}
		layer := c.size.cold[clients]
		bytes, n, err := c.sent(c.content.blobs[layer])
		if err != nil {
			return nil, err
		}
		first, _, err := c.pulled(ctx, clients, parts, layer)
		if err != nil {
			return nil, err
		}
		after, m, err := c.sent(c.content.blobs[layer])
		if err != nil {
			return nil, err
		}
		again, _, err := c.pulled(ctx, clients, parts, layer)
		return map[string]float64{
			name + egress: float64(after-bytes) / float64(layer), name + answers: float64(m - n),
			name + took: first.Seconds(), name + coldWarm: first.Seconds() / again.Seconds(),
		}, err
	}
}

// joinsAtOnce is how long clients that ask at once wait for the first byte of a layer that nobody has. It
// is measured with a slow upstream, and with a fast one that keeps the processors busy: then the last
// client waits while the others are served. What the upstream alone takes is another system's value.
func joinsAtOnce(ctx context.Context, c *caching) (map[string]float64, error) {
	_, busy, failed := c.pulled(ctx, 8, 1, tinySize)
	_, first, err := c.pulled(ctx, 8, 1, slowSize)
	return map[string]float64{joined: ms(first), joinedBusy: ms(busy)}, errors.Join(failed, err)
}

func warmLayers(ctx context.Context, c *caching) (map[string]float64, error) {
	s := c.all[0]
	if _, _, _, err := load(ctx, c.place, s, 1, c.layerOf(s, layerSize), 0); err != nil {
		return nil, err
	}
	found := map[string]float64{}
	for metric, clients := range map[string]int{warm1: 1, warm16: 16} {
		got, took, _, err := load(ctx, c.place, s, clients, c.layerOf(s, layerSize), c.size.window)
		if err != nil {
			return nil, err
		}
		found[metric] = float64(got) / 1e6 / took.Seconds()
	}
	return found, nil
}

func storeManifests(ctx context.Context, c *caching) (map[string]float64, error) {
	found, err := manyManifests(ctx, c.place, c.all[0], c.size.scale)
	return map[string]float64{rate64: found[rate64]}, err
}

// storeMemory is what downloads take: 64, and nearly as many as a store has at a time (1,024, of which some
// stay free for who comes next).
func storeMemory(ctx context.Context, c *caching) (map[string]float64, error) {
	s := c.all[0]
	<-time.After(settle)
	idle, err := s.process.memory("VmRSS")
	if err != nil {
		return nil, err
	}
	s.idle = idle
	found, err := manyLayers(ctx, c.place, s, c.size.scale)
	if err != nil {
		return nil, err
	}
	if err := s.process.resetPeak(); err != nil {
		return nil, err
	}
	all, err := c.begin(ctx, 900)
	defer closeAll(all)
	if err != nil {
		return nil, err
	}
	if err := holdAll(c.place, s, all, c.size.window); err != nil {
		return nil, err
	}
	peak, err := s.process.memory("VmHWM")
	found[streams] = mib(peak - idle)
	return found, err
}

// killedStore is how long nobody is served after kill -9 in the middle of a layer.
func killedStore(ctx context.Context, c *caching) (map[string]float64, error) {
	s := c.all[0]
	one, err := dialFrom(ctx, s, 0)
	if err != nil {
		return nil, err
	}
	defer one.close()
	left := int64(layerSize / 2)
	_, err = one.get(c.layerOf(s, layerSize), func(n int) bool { left -= int64(n); return left > 0 })
	if err != nil {
		return nil, err
	}
	if err := s.process.cmd.Process.Signal(syscall.SIGKILL); err != nil {
		return nil, fmt.Errorf("kill a store: %w", err)
	}
	begun := time.Now()
	<-s.process.ended
	next, err := c.store(ctx, c.folder+"0", s.address)
	if err == nil {
		c.all[0] = next
	}
	return map[string]float64{killed: ms(time.Since(begun))}, err
}

// storeTargets are those of Proxy mode.
func storeTargets() []target {
	of := func(metric, name string) func(results) []float64 {
		return func(r results) []float64 { return r[key{metric, name, secured}] }
	}
	var all []target
	for _, name := range []string{ourStore, ourThree} {
		for _, row := range []string{"1 clients: ", "8 clients: ", "64 clients: ", "8 clients, 4 ranges each: "} {
			all = append(all, target{name + ", " + row + egress, of(row+egress, name), 1.005, true}, target{name + ", " + row + answers, of(row+answers, name), 4, true})
		}
	}
	ratio := func(metric, other string) func(results) []float64 {
		return func(r results) []float64 {
			return pairs(r[key{metric, ourStore, secured}], r[key{metric, other, secured}])
		}
	}
	return append(all,
		target{"64 clients: " + coldWarm, of("64 clients: "+coldWarm, ourStore), 1.1, true},
		target{joined + ", beyond the upstream's", func(r results) []float64 {
			base := median(r[key{first, bare, secured}])
			var all []float64
			for _, v := range r[key{joined, ourStore, secured}] {
				all = append(all, v-base)
			}
			return all
		}, 5, true},
		target{warm1 + ": ours / " + cacheLock, ratio(warm1, cacheLock), 1, false},
		target{warm16 + ": ours / " + cacheLock, ratio(warm16, cacheLock), 1, false},
		target{rate64 + ": registry-store / registry-agent serve", ratio(rate64, ours), 1, false},
		target{above, of(above, ourStore), 64, true},
		target{streams, of(streams, ourStore), 256, true},
		target{killed, of(killed, ourStore), 1000, true},
	)
}

func storeMetrics() (all []string) {
	for _, row := range []string{"1 clients: ", "8 clients: ", "64 clients: ", "8 clients, 4 ranges each: "} {
		for _, metric := range []string{egress, answers, took, coldWarm} {
			all = append(all, row+metric)
		}
	}
	return append(all, joined, joinedBusy, warm1, warm16, rate64, above, streams, killed)
}
