package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM) //nolint:forbidigo // this is a program
	defer stop()
	run := bench
	args := os.Args[1:]
	if len(args) > 0 && args[0] == "serve" {
		run, args = serve, args[1:]
	} else if len(args) > 0 && args[0] == "memory" {
		run, args = downloads, args[1:]
	} else if len(args) > 0 && args[0] == "store" {
		run, args = storeBench, args[1:]
	} else if len(args) > 0 && args[0] == "etcd" {
		run, args = isolated(etcdBench), args[1:]
	}
	if err := run(ctx, args); err != nil {
		_, _ = fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1) //nolint:gocritic // the context's work is over
	}
}

// options are what bench is started with.
type options struct {
	scale      scale
	tools      tools
	write      string
	only       *regexp.Regexp
	out, alive io.Writer
}

func bench(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	quick := flags.Bool("short", false, "the same rows in two minutes; writes nothing")
	write := flags.String("write", "", "`file` in which the tables are replaced")
	only := flags.String("only", "", "`pattern`: only what matches it, as \"TLS/manifests.*/ours\"; writes nothing")
	rounds := flags.Int("rounds", 0, "how many; 0: as many as the tables should have")
	o := options{out: os.Stdout, alive: os.Stderr, scale: full()}
	flags.StringVar(&o.tools.nginx, "nginx", ".parts/nginx/nginx", "`path`")
	flags.StringVar(&o.tools.registry, "registry", ".parts/bin/registry", "`path`")
	flags.StringVar(&o.tools.agent, "agent", "bin/registry-agent", "`path`")
	o.tools.store = "bin/registry-store"
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *quick {
		o.scale = short()
	}
	if *rounds > 0 {
		o.scale.rounds = *rounds
	}
	var err error
	if o.only, err = regexp.Compile(*only); err != nil {
		return fmt.Errorf("-only: %w", err)
	}
	if !*quick && *only == "" {
		o.write = *write
	}
	if err := o.tools.find(); err != nil {
		return err
	}
	return o.run(ctx)
}

// find makes the paths absolute; each program has a working folder of its own.
func (t *tools) find() (err error) {
	for _, path := range []*string{&t.nginx, &t.registry, &t.agent, &t.store} {
		if *path, err = filepath.Abs(*path); err == nil {
			_, err = exec.LookPath(*path)
		}
		if err != nil {
			return fmt.Errorf("a program is missing: %w; make bench builds it", err)
		}
	}
	t.self, err = os.Executable()
	return err
}

func (o options) run(ctx context.Context) error {
	dir, err := os.MkdirTemp("", "bench")
	if err != nil {
		return fmt.Errorf("make a folder: %w", err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	begin := time.Now()
	image, err := makeContent(dir)
	if err != nil {
		return err
	}
	found := results{}
	for _, mode := range modes() {
		if !slices.ContainsFunc(rows(), func(r row) bool { return o.wanted(mode, r, ours) }) {
			continue
		}
		if err := o.measure(ctx, filepath.Join(dir, mode), mode, image, found); err != nil {
			return err
		}
	}
	if o.only.MatchString(checked) {
		for range min(o.scale.rounds, 3) {
			ratio, err := checkImages(ctx, o.scale.images)
			if err != nil {
				return err
			}
			found.add(key{checked, ours, secured}, ratio)
		}
	}
	text := found.text(o.scale, time.Since(begin))
	if _, err := io.WriteString(o.out, text); err != nil || o.write == "" {
		return err
	}
	return replace(o.write, "make bench", text)
}

// wanted reports whether -only leaves a measurement.
func (o options) wanted(mode string, r row, system string) bool {
	return o.only.MatchString(mode + "/" + r.name + "/" + system)
}

// measure makes all rounds of one mode. Each begins with another program.
func (o options) measure(ctx context.Context, dir, mode string, image content, found results) error {
	p, err := open(ctx, dir, mode == secured, image, o.tools)
	if err != nil {
		return err
	}
	defer p.close()
	if mode == secured {
		for _, s := range p.all {
			found.add(key{idle, s.name, mode}, mib(s.idle))
		}
	}
	if err := p.warm(ctx); err != nil {
		return err
	}
	for round := range o.scale.rounds {
		for _, r := range rows() {
			for i := range p.all {
				s := p.all[(i+round)%len(p.all)]
				if !o.wanted(mode, r, s.name) {
					continue
				}
				values, err := r.measure(ctx, p, s, o.scale)
				if err != nil {
					return fmt.Errorf("%s, %s: %w", mode, r.name, err)
				}
				for metric, v := range values {
					found.add(key{metric, s.name, mode}, v)
				}
			}
		}
		_, _ = fmt.Fprintf(o.alive, "%s: round %d of %d\n", mode, round+1, o.scale.rounds)
	}
	return nil
}

// warm has each program serve everything once: the cache has it from then on.
func (p *place) warm(ctx context.Context) error {
	for _, s := range p.all {
		if _, _, _, err := load(ctx, p, s, 1, p.layerOf(s, layerSize), 0); err != nil {
			return err
		}
	}
	return nil
}
