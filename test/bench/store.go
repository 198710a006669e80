package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/d8-registry/registry/test/harness/cert"
)

// storeBench measures caches: ours beside nginx and distribution, with TLS on both sides. Each
// measurement begins with nothing in the cache.
func storeBench(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("store", flag.ContinueOnError)
	quick := flags.Bool("short", false, "the same rows with less of each; writes nothing")
	write := flags.String("write", "", "`file` in which the tables are replaced")
	only := flags.String("only", "", "`pattern`: only what matches it, as \"warm/.*\"; writes nothing")
	t := tools{nginx: ".parts/nginx/nginx", registry: ".parts/bin/registry", agent: "bin/registry-agent", store: "bin/registry-store"}
	err := errors.Join(flags.Parse(args), t.find())
	wanted, bad := regexp.Compile(*only)
	if err = errors.Join(err, bad); err != nil {
		return err
	}
	size := fullStores()
	if *quick {
		size = shortStores()
	}
	dir, err := os.MkdirTemp("", "bench")
	if err != nil {
		return fmt.Errorf("make a folder: %w", err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	begin, found := time.Now(), results{}
	if err := measureStores(ctx, dir, t, size, wanted, found); err != nil {
		return err
	}
	text := found.storeText(size, time.Since(begin))
	if _, err := io.WriteString(os.Stdout, text); err != nil || *quick || *only != "" || *write == "" {
		return err
	}
	return replace(*write, "make bench-store", text)
}

func measureStores(ctx context.Context, dir string, t tools, size storeScale, wanted *regexp.Regexp, found results) error {
	image, err := makeContent(dir)
	if err != nil {
		return err
	}
	ca, err := cert.NewAuthority("bench")
	if err != nil {
		return err
	}
	p := &place{dir: dir, content: image, tools: t, secured: true, counted: true, ca: ca}
	if err := p.start(ctx, p.upstream, p.ours); err != nil {
		return err
	}
	defer p.close()
	for round := range size.rounds {
		if err := p.withoutCache(ctx, size.scale, found); err != nil {
			return err
		}
		for _, row := range storeRows() {
			all := makers()
			for i := range all {
				m := all[(i+round)%len(all)]
				if row.of != nil && !slices.Contains(row.of, m.name) || !wanted.MatchString(row.name+"/"+m.name) {
					continue
				}
				if err := p.measureStore(ctx, fmt.Sprintf("%s-%s-%d", m.name, row.name, round), m, row, size, found); err != nil {
					return fmt.Errorf("%s, %s: %w", m.name, row.name, err)
				}
			}
			_, _ = fmt.Fprintf(os.Stderr, "round %d of %d: %s\n", round+1, size.rounds, row.name)
		}
	}
	return nil
}

// withoutCache is what rows are compared with: the upstream's first byte, and our proxy.
func (p *place) withoutCache(ctx context.Context, size scale, found results) error {
	mid, err := firstByte(ctx, p, p.up, size)
	if err != nil {
		return err
	}
	found.add(key{first, bare, secured}, mid[first])
	s := p.all[1]
	values, err := manyManifests(ctx, p, s, size)
	found.add(key{rate64, ours, secured}, values[rate64])
	return err
}

func (p *place) measureStore(ctx context.Context, folder string, m maker, row storeRow, size storeScale, found results) error {
	folder = strings.NewReplacer(" ", "", ",", "", "-", "").Replace(folder)
	all, err := m.start(ctx, p, folder)
	c := &caching{place: p, name: m.name, folder: filepath.Join(p.dir, folder), all: all, size: size}
	var values map[string]float64
	if err == nil {
		values, err = row.measure(ctx, c)
	}
	for _, s := range c.all {
		if s != nil && s.process != nil {
			s.process.stop()
		}
	}
	for metric, v := range values {
		found.add(key{metric, m.name, secured}, v)
	}
	left, _ := filepath.Glob(c.folder + "*") // the pattern is good
	for _, dir := range left {
		err = errors.Join(err, os.RemoveAll(filepath.Join(dir, "data")))
	}
	return err
}

// storeText is the tables in Markdown.
func (r results) storeText(s storeScale, took time.Duration) string {
	var out strings.Builder
	say := func(format string, args ...any) { _, _ = fmt.Fprintf(&out, format, args...) } // a Builder never fails
	say("%d rounds, %d processors, %s, %s, TLS on both sides. The layer has %d MiB with 1 and 8 clients, %d with 64.\n",
		s.rounds, runtime.NumCPU(), runtime.Version(), took.Round(time.Second), s.cold[1]>>20, s.cold[64]>>20)
	say("\n## What must be reached\n\n| | measured | must be | |\n|---|---|---|---|\n")
	for _, t := range storeTargets() {
		if values := t.value(r); len(values) > 0 {
			say("| %s | %s | %s %s | %s |\n", t.what, spread(values), map[bool]string{true: "≤", false: "≥"}[t.below], number(t.limit), t.verdict(values))
		}
	}
	columns := []string{cachePlain, cacheLock, cacheSlice, cache, ourStore, ourThree}
	say("\n## Beside other caches\n\n| | %s |\n|---%s|\n", strings.Join(columns, " | "), strings.Repeat("|---", len(columns)))
	for _, metric := range storeMetrics() {
		var cells []string
		for _, name := range columns {
			cells = append(cells, spread(r[key{metric, name, secured}]))
		}
		if slices.ContainsFunc(cells, func(cell string) bool { return cell != spread(nil) }) {
			say("| %s | %s |\n", metric, strings.Join(cells, " | "))
		}
	}
	return out.String()
}
