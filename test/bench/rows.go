package main

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// scale is how much one measurement takes in.
type scale struct {
	rounds int
	layer  int64         // bytes that one client takes
	window time.Duration // of the rows with many clients
	few    int           // requests of the rows with one client
	images int
}

func full() scale {
	return scale{rounds: 5, layer: layerSize, window: 5 * time.Second, few: 10000, images: 5000}
}

func short() scale {
	return scale{rounds: 3, layer: layerSize / 4, window: time.Second, few: 1000, images: 500}
}

// row is one way to load a program. What it returns goes into the tables, by metric.
type row struct {
	name    string
	measure func(context.Context, *place, *system, scale) (map[string]float64, error)
}

// The metrics.
const (
	speed1, cpuGiB1   = "1 GiB layer, 1 client, MB/s", "its CPU, s per GiB"
	speed16, cpuGiB16 = "1 GiB layer, 16 clients, MB/s", "its CPU, s per GiB "
	rate64            = "manifests, 64 clients, requests/s"
	mid64, late64     = "its p50, ms", "its p99, ms"
	cpuThousand       = "its CPU, s per 1,000 requests"
	mid1              = "manifest, 1 client, p50, ms"
	first             = "first byte of a layer, p50, ms"
	above             = "64 parallel layers, MiB above idle"
)

func rows() []row {
	return []row{
		{speed1, oneLayer},
		{speed16, sixteenLayers},
		{rate64, manyManifests},
		{mid1, oneManifest},
		{first, firstByte},
		{above, manyLayers},
	}
}

func (p *place) layerOf(s *system, size int64) []byte {
	header := ""
	if size < layerSize {
		header = fmt.Sprintf("Range: bytes=0-%d\r\n", size-1)
	}
	return s.request("GET", "/blobs/"+p.content.layer, header)
}

func (p *place) manifestOf(s *system) []byte {
	return s.request("GET", "/manifests/v1", "Accept: application/vnd.oci.image.manifest.v1+json\r\n")
}

func oneLayer(ctx context.Context, p *place, s *system, size scale) (map[string]float64, error) {
	got, took, cpu, err := load(ctx, p, s, 1, p.layerOf(s, size.layer), 0)
	if err != nil {
		return nil, err
	}
	return map[string]float64{speed1: float64(got) / 1e6 / took.Seconds(), cpuGiB1: perGiB(cpu, got)}, nil
}

func sixteenLayers(ctx context.Context, p *place, s *system, size scale) (map[string]float64, error) {
	got, took, cpu, err := load(ctx, p, s, 16, p.layerOf(s, layerSize), size.window)
	if err != nil {
		return nil, err
	}
	return map[string]float64{speed16: float64(got) / 1e6 / took.Seconds(), cpuGiB16: perGiB(cpu, got)}, nil
}

func perGiB(cpu time.Duration, bytes int64) float64 {
	return cpu.Seconds() * (1 << 30) / float64(bytes)
}

// manyLayers is about memory only. What is idle was measured before the first request.
func manyLayers(ctx context.Context, p *place, s *system, size scale) (map[string]float64, error) {
	if err := s.process.resetPeak(); err != nil {
		return nil, err
	}
	if _, _, _, err := load(ctx, p, s, 64, p.layerOf(s, layerSize), size.window); err != nil {
		return nil, err
	}
	peak, err := s.process.memory("VmHWM")
	return map[string]float64{above: mib(peak - s.idle)}, err
}

func mib(bytes int64) float64 { return float64(bytes) / (1 << 20) }

// load has clients ask for a body again and again for as long as the window; without
// one each asks once. It returns the bytes that came.
func load(ctx context.Context, p *place, s *system, clients int, request []byte, window time.Duration) (int64, time.Duration, time.Duration, error) {
	all, err := connect(ctx, p, s, clients)
	defer closeAll(all)
	if err != nil {
		return 0, 0, 0, err
	}
	var got atomic.Int64
	var over atomic.Bool
	failed := make(chan error, clients)
	var group sync.WaitGroup
	begin := time.Now()
	before, err := s.process.cpu()
	if err != nil {
		return 0, 0, 0, err
	}
	for _, c := range all {
		group.Go(func() {
			for once := window == 0; !over.Load(); {
				_, err := c.get(request, func(n int) bool { got.Add(int64(n)); return !over.Load() })
				if err != nil || once {
					failed <- err
					return
				}
			}
			failed <- nil
		})
	}
	if window > 0 {
		<-time.After(window)
	} else {
		group.Wait()
	}
	bytes, took := got.Load(), time.Since(begin)
	after, err := s.process.cpu()
	over.Store(true)
	group.Wait()
	for range all {
		if e := <-failed; e != nil {
			err = fmt.Errorf("%s: %w", s.name, e)
		}
	}
	return bytes, took, after - before, err
}

// connect opens connections and asks once on each, so that handshakes and first
// requests are not measured. More than 64 at a time would be closed as strangers.
func connect(ctx context.Context, p *place, s *system, clients int) ([]*client, error) {
	all := make([]*client, clients)
	failed := make([]error, clients)
	var group sync.WaitGroup
	turns := make(chan struct{}, 64)
	for i := range all {
		group.Go(func() {
			turns <- struct{}{}
			defer func() { <-turns }()
			if all[i], failed[i] = dial(ctx, s.address, s.tls); failed[i] == nil {
				_, failed[i] = all[i].get(p.manifestOf(s), func(int) bool { return true })
			}
		})
	}
	group.Wait()
	for _, err := range failed {
		if err != nil {
			return all, fmt.Errorf("%s: %w", s.name, err)
		}
	}
	return all, nil
}

func closeAll(all []*client) {
	for _, c := range all {
		if c != nil {
			c.close()
		}
	}
}

func manyManifests(ctx context.Context, p *place, s *system, size scale) (map[string]float64, error) {
	all, err := connect(ctx, p, s, 64)
	defer closeAll(all)
	if err != nil {
		return nil, err
	}
	request := p.manifestOf(s)
	took := make([][]time.Duration, len(all))
	failed := make([]error, len(all))
	var group sync.WaitGroup
	begin := time.Now()
	before, err := s.process.cpu()
	if err != nil {
		return nil, err
	}
	for i, c := range all {
		group.Go(func() {
			took[i] = make([]time.Duration, 0, 1<<14)
			for time.Since(begin) < size.window && failed[i] == nil {
				var one time.Duration
				one, failed[i] = c.get(request, func(int) bool { return true })
				took[i] = append(took[i], one)
			}
		})
	}
	group.Wait()
	elapsed := time.Since(begin)
	after, err := s.process.cpu()
	for _, e := range failed {
		if e != nil {
			err = fmt.Errorf("%s: %w", s.name, e)
		}
	}
	each := slices.Sorted(slices.Values(slices.Concat(took...)))
	return map[string]float64{
		rate64: float64(len(each)) / elapsed.Seconds(),
		mid64:  ms(each[len(each)/2]), late64: ms(each[len(each)*99/100]),
		cpuThousand: (after - before).Seconds() * 1000 / float64(len(each)),
	}, err
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func oneManifest(ctx context.Context, p *place, s *system, size scale) (map[string]float64, error) {
	mid, err := onebyone(ctx, p, s, p.manifestOf(s), size.few)
	return map[string]float64{mid1: mid}, err
}

func firstByte(ctx context.Context, p *place, s *system, size scale) (map[string]float64, error) {
	mid, err := onebyone(ctx, p, s, p.layerOf(s, 64<<10), size.few/2)
	return map[string]float64{first: mid}, err
}

// onebyone is the median time to the first byte of one client.
func onebyone(ctx context.Context, p *place, s *system, request []byte, requests int) (float64, error) {
	all, err := connect(ctx, p, s, 1)
	defer closeAll(all)
	if err != nil {
		return 0, err
	}
	each := make([]time.Duration, requests)
	for i := range each {
		if each[i], err = all[0].get(request, func(int) bool { return true }); err != nil {
			return 0, fmt.Errorf("%s: %w", s.name, err)
		}
	}
	slices.Sort(each)
	return ms(each[len(each)/2]), nil
}
