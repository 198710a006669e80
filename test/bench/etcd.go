package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/d8-registry/registry/test/harness/cert"
	"github.com/d8-registry/registry/test/harness/containerdtest"
)

// beside is an etcd and a store on one file system, and what is done there.
type beside struct {
	*place
	etcd        string // the program
	size        int64  // bytes that each fill has
	quiet, most time.Duration
	disk        string
	layers      []string // digests
}

// fillLayer is how large each layer of a fill is.
const fillLayer = 256 << 20

// isolated has a benchmark mount what it wants: nothing of it is left, however it ends.
func isolated(run func(context.Context, []string) error) func(context.Context, []string) error {
	return func(ctx context.Context, args []string) (err error) {
		if os.Geteuid() != 0 {
			return errors.New("only root may mount the file system that is measured")
		}
		if code := containerdtest.Isolate(func() int {
			if err = run(ctx, args); err != nil {
				return 1
			}
			return 0
		}); code != 0 && err == nil {
			err = errors.New("see above")
		}
		return err
	}
}

// etcdBench is what a real etcd feels of a store that fills on its disk, with the guard and without.
func etcdBench(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("etcd", flag.ContinueOnError)
	b := &beside{}
	gib := flags.Int64("size", 2, "`GiB` that come in each fill")
	flags.DurationVar(&b.quiet, "idle", 30*time.Second, "how long etcd is measured alone")
	flags.DurationVar(&b.most, "most", 10*time.Minute, "how long a fill may take; what has not come then is left")
	flags.StringVar(&b.etcd, "etcd", ".parts/bin/etcd", "`path`")
	in := flags.String("dir", "", "`folder` for the file system, in a file of that size and a half; \"\": that of temporary files")
	t := tools{nginx: ".parts/nginx/nginx", registry: ".parts/bin/registry", agent: "bin/registry-agent", store: "bin/registry-store"}
	if err := errors.Join(flags.Parse(args), t.find()); err != nil {
		return err
	}
	b.size = *gib << 30
	dir, err := os.MkdirTemp(*in, "bench")
	if err != nil {
		return fmt.Errorf("make a folder: %w", err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if b.disk, err = oneDisk(ctx, dir, b.size*3/2+4<<30); err != nil {
		return err
	}
	defer func() { _ = syscall.Unmount(b.disk, syscall.MNT_DETACH) }()
	image, err := makeContent(dir)
	if err != nil {
		return err
	}
	ca, err := cert.NewAuthority("bench")
	if err != nil {
		return err
	}
	b.place = &place{dir: dir, content: image, tools: t, secured: true, ca: ca}
	if err := errors.Join(b.makeLayers(), b.start(ctx, b.upstream)); err != nil {
		return err
	}
	defer b.close()
	return b.measure(ctx)
}

// oneDisk is a file system of its own on a device that syncs what it is told to, and nothing else.
func oneDisk(ctx context.Context, dir string, size int64) (string, error) {
	image, at := filepath.Join(dir, "image"), filepath.Join(dir, "disk")
	err := errors.Join(os.Mkdir(at, 0o700), os.WriteFile(image, nil, 0o600), os.Truncate(image, size))
	run := func(argv ...string) string {
		if err != nil {
			return ""
		}
		out, failed := exec.CommandContext(ctx, argv[0], argv[1:]...).CombinedOutput()
		if failed != nil {
			err = fmt.Errorf("%v: %w: %s", argv, failed, out)
		}
		return strings.TrimSpace(string(out))
	}
	device := run("losetup", "--find", "--show", "--direct-io=on", image)
	run("mkfs.ext4", "-q", "-E", "lazy_itable_init=0,lazy_journal_init=0", device)
	run("mount", device, at)
	if device != "" { // it goes when it is mounted no more
		_ = exec.CommandContext(ctx, "losetup", "--detach", device).Run()
	}
	return at, err
}

// makeLayers has the upstream serve so many that differ, of holes: reading them is no work for a disk.
func (b *beside) makeLayers() error {
	for n := range b.size / fillLayer {
		begin := binary.BigEndian.AppendUint64(nil, uint64(n+1))
		hash := sha256.New()
		_, _ = hash.Write(begin) // a hash never fails
		if _, err := io.CopyN(hash, zeros{}, fillLayer-int64(len(begin))); err != nil {
			return fmt.Errorf("digest of a layer: %w", err)
		}
		digest := "sha256:" + hex.EncodeToString(hash.Sum(nil))
		file := filepath.Join(b.content.root, "v2", repository, "blobs", digest)
		if err := errors.Join(os.WriteFile(file, begin, 0o600), os.Truncate(file, fillLayer)); err != nil {
			return fmt.Errorf("make a layer: %w", err)
		}
		b.layers = append(b.layers, digest)
	}
	return nil
}

func (b *beside) measure(ctx context.Context) error {
	e, err := b.startEtcd(ctx)
	if err != nil {
		return err
	}
	defer e.process.stop()
	ctx, stop := context.WithCancel(ctx)
	var all sync.WaitGroup
	defer all.Wait()
	defer stop()
	all.Go(func() { e.load(ctx) })
	say := func(format string, args ...any) { _, _ = fmt.Fprintf(os.Stdout, format, args...) } // whoever reads may be gone
	say("An etcd that is written to, and a store that fills, on one ext4. WAL fsync of etcd, ms:\n\n")
	say("| | p50 | p99 | p99 / alone | fsyncs | GiB | MB/s |\n|---|---|---|---|---|---|---|\n")
	alone := 0.0
	for _, phase := range []struct {
		name, guard string
		fill        bool
	}{{"alone", "", false}, {"a fill, guard off", "", true}, {"a fill, guard on", b.disk, true}, {"alone again", "", false}} {
		before, err := e.fsyncs(ctx)
		if err != nil {
			return err
		}
		begun, filled := time.Now(), int64(0)
		if phase.fill {
			filled, err = b.fill(ctx, phase.name, phase.guard)
		} else {
			err = wait(ctx, b.quiet)
		}
		took := time.Since(begun)
		after, failed := e.fsyncs(ctx)
		if err = errors.Join(err, failed); err != nil {
			return err
		}
		d := after.minus(before)
		p99 := d.quantile(0.99)
		if alone == 0 {
			alone = p99
		}
		say("| %s | %.1f | %.1f | %.1f | %.0f | %.1f | %.0f |\n", phase.name, d.quantile(0.5), p99, p99/alone, d.count(), float64(filled)/(1<<30), float64(filled)/1e6/took.Seconds())
		if err := wait(ctx, b.quiet/3); err != nil { // what was written is on the disk
			return err
		}
	}
	return nil
}

func wait(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// fill has a store with nothing fetch all layers, three at a time as a containerd does.
func (b *beside) fill(ctx context.Context, name, guard string) (filled int64, err error) {
	data := filepath.Join(b.disk, "store")
	if err := os.MkdirAll(data, 0o700); err != nil {
		return 0, fmt.Errorf("make a folder: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(data)) }()
	folder := strings.NewReplacer(" ", "", ",", "").Replace(name)
	stores, err := b.stores(ctx, folder, 1, "--data", data, "--etcd", guard, "--quota", strconv.FormatInt(b.size*2, 10))
	for _, s := range stores {
		defer s.process.stop()
	}
	if err != nil {
		return 0, err
	}
	s := stores[0]
	end := time.Now().Add(b.most)
	next := make(chan string, len(b.layers))
	for _, digest := range b.layers {
		next <- digest
	}
	close(next)
	var all sync.WaitGroup
	failed, got := make([]error, 3), make([]int64, 3)
	for i := range failed {
		all.Go(func() {
			c, err := dialFrom(ctx, s, i)
			if err != nil {
				failed[i] = err
				return
			}
			defer c.close()
			for digest := range next {
				if _, failed[i] = c.get(s.request("GET", "/blobs/"+digest, ""), func(n int) bool {
					got[i] += int64(n)
					return time.Now().Before(end)
				}); failed[i] != nil || time.Now().After(end) {
					return
				}
			}
		})
	}
	all.Wait()
	return got[0] + got[1] + got[2], errors.Join(failed...)
}

// runningEtcd is one that is written to.
type runningEtcd struct {
	process *process
	url     string
}

func (b *beside) startEtcd(ctx context.Context) (*runningEtcd, error) {
	address, err := free()
	if err != nil {
		return nil, err
	}
	peers, err := free()
	if err != nil {
		return nil, err
	}
	e := &runningEtcd{url: "http://" + address}
	e.process, err = start(ctx, "etcd", address, nil, b.etcd, "--data-dir", filepath.Join(b.disk, "etcd"), "--log-level", "error",
		"--listen-client-urls", e.url, "--advertise-client-urls", e.url, "--listen-peer-urls", "http://"+peers,
		"--initial-advertise-peer-urls", "http://"+peers, "--initial-cluster", "default=http://"+peers)
	return e, err
}

// load writes as the API server of a cluster does that is at work: some at a time, all the time.
func (e *runningEtcd) load(ctx context.Context) {
	var all sync.WaitGroup
	defer all.Wait()
	for i := range 4 {
		body := fmt.Appendf(nil, `{"key":"%s","value":"%s"}`, encode(fmt.Appendf(nil, "key-%d", i)), encode(bytes.Repeat([]byte("v"), 1<<10)))
		all.Go(func() {
			for wait(ctx, 20*time.Millisecond) == nil {
				_, _ = post(ctx, e.url+"/v3/kv/put", body) // it is counted by etcd
			}
		})
	}
}
