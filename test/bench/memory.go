package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/d8-registry/registry/test/harness/cert"
)

// downloads is what parallel downloads take in registry-agent serve: for each number of
// them a process of its own, with TLS on both sides; from one upstream, and from two, where
// layers are hashed.
func downloads(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("memory", flag.ContinueOnError)
	window := flags.Duration("window", 10*time.Second, "how long all of them go on")
	t := tools{nginx: ".parts/nginx/nginx", registry: ".parts/bin/registry", agent: "bin/registry-agent", store: "bin/registry-store"}
	if err := errors.Join(flags.Parse(args), t.find()); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "bench")
	if err != nil {
		return fmt.Errorf("make a folder: %w", err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	image, err := makeContent(dir)
	if err != nil {
		return err
	}
	ca, err := cert.NewAuthority("bench")
	if err != nil {
		return err
	}
	for i, twice := range []bool{false, true} {
		for _, n := range []int{64, 256, 1024} {
			p := &place{dir: filepath.Join(dir, fmt.Sprintf("%d-%d", i, n)), content: image, tools: t, secured: true, twice: twice, ca: ca}
			if err := p.downloads(ctx, n, *window); err != nil {
				return err
			}
		}
	}
	return nil
}

func (p *place) downloads(ctx context.Context, n int, window time.Duration) error {
	if err := p.start(ctx, p.upstream, p.ours); err != nil {
		return err
	}
	defer p.close()
	s := p.all[1]
	if err := hold(ctx, p, s, n, window); err != nil {
		return err
	}
	peak, err := s.process.memory("VmHWM")
	_, _ = fmt.Fprintf(os.Stdout, "%5d downloads, upstreams: %d: %6.1f MiB idle, %6.1f MiB peak, %4d KiB each\n",
		n, len(p.layout().Routes[0].Upstreams), mib(s.idle), mib(peak), (peak-s.idle)>>10/int64(n))
	return err
}

// pace is how long a client pauses after each piece, which is a record of TLS or a few: it
// is about what is held, and many that take all they can would only starve each other.
const pace = time.Second

// hold has clients begin with a layer, and go on with it until all have for a while.
func hold(ctx context.Context, p *place, s *system, n int, window time.Duration) error {
	all, err := connect(ctx, p, s, n)
	defer closeAll(all)
	if err != nil {
		return err
	}
	return holdAll(p, s, all, window)
}

func holdAll(p *place, s *system, all []*client, window time.Duration) error {
	n := len(all)
	var over atomic.Bool
	var begun, ended sync.WaitGroup
	begun.Add(n)
	turns := make(chan struct{}, 16) // that begin at a time
	failed := make([]error, n)
	for i, c := range all {
		ended.Go(func() {
			turns <- struct{}{}
			begins := sync.OnceFunc(func() { <-turns; begun.Done() })
			_, failed[i] = c.get(p.layerOf(s, layerSize), func(int) bool {
				begins()
				<-time.After(pace)
				return !over.Load()
			})
			begins()
		})
	}
	begun.Wait()
	<-time.After(window)
	over.Store(true)
	ended.Wait()
	return errors.Join(failed...)
}
