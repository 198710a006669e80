package store

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/d8-registry/registry/internal/datapath/front/fronttest"
	"github.com/d8-registry/registry/test/harness/testregistry"
)

// TestAnOwnerThatFailsInMidFill: 32 nodes wait for a layer at two stores, which have it from a third
// one as it comes; that one is killed, goes silent, loses its disk, or has it full. No node fails, and the registry
// sends hardly more than the layer once again.
func TestAnOwnerThatFailsInMidFill(t *testing.T) {
	t.Parallel()
	for name, fail := range map[string]func(of *program){
		"killed":         func(of *program) { of.kill() },
		"killed at 10 %": func(of *program) { of.kill() },
		"killed at 90 %": func(of *program) { of.kill() },
		"silent":         func(of *program) { _ = of.cmd.Process.Signal(syscall.SIGSTOP) },
		"full": func(of *program) {
			junk, err := os.Create(filepath.Join(of.process.cfg.Data, "junk"))
			for err == nil {
				_, err = junk.Write(make([]byte, 1<<20))
			}
			if !errors.Is(err, syscall.ENOSPC) {
				of.t.Error(err)
			}
			_ = junk.Close()
		},
		"no disk": func(of *program) {
			if err := os.RemoveAll(of.process.cfg.Data); err != nil {
				of.t.Error(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := three(t)
			layer := c.stores[0].push("v1", 1, 8<<20).layers[0]
			order := c.of(layer.digest)
			part := layer.size / 2
			switch name {
			case "killed at 10 %":
				part = layer.size / 10
			case "killed at 90 %":
				part = layer.size / 10 * 9
			}
			if name == "full" {
				small(t, order[0].cfg.Data, 2*layer.size)
			}
			c.registry.SetFaults(testregistry.Faults{Match: isOf(layer), Times: 1, StallAfter: part})
			fronttest.WriteFiles(t, order[0].cfg.ConfigDir, order[0].content)
			of := build(t, order[0])
			of.run()
			t.Cleanup(func() { of.kill() })
			c.launch(order[1:]...)
			failed := make(chan struct{})
			go func() {
				defer close(failed)
				eventually(t, "a part of it came", func() bool { return c.registry.Bytes(layer.digest) >= part })
				fail(of)
			}()
			begun := time.Now()
			c.pull(32, 1, "v1", order[1:]...)
			<-failed
			sent, requests := c.sent(layer.digest)
			t.Logf("%d bytes of %d in %d requests, %s", sent, layer.size, requests, time.Since(begun).Round(time.Millisecond))
			most := 2 * layer.size
			if name == "full" { // both go on past it at the byte that was written, and on a slow machine little was
				most = 3 * layer.size
			}
			if sent > most {
				t.Errorf("%d bytes of %d in %d requests", sent, layer.size, requests)
			}
		})
	}
}

// isOf are requests for a layer.
func isOf(layer pushedLayer) func(*http.Request) bool {
	return func(r *http.Request) bool {
		return strings.HasSuffix(r.URL.Path, layer.digest) && r.Header.Get("Authorization") != ""
	}
}

// TestAnOwnerThatIsWrong: the disk of the owner has changed a byte of what it holds. Nobody at the
// other stores gets a whole layer of wrong bytes; the next try has the right ones, from the registry.
func TestAnOwnerThatIsWrong(t *testing.T) {
	t.Parallel()
	c := three(t)
	c.launch(c.stores...)
	layer := c.stores[0].push("v1", 1, 8<<20).layers[0]
	order, path := c.of(layer.digest), tool+"/blobs/"+layer.digest
	if _, err := order[0].client(1).get(t.Context(), path, ""); err != nil {
		t.Fatal(err)
	}
	for _, p := range order[:2] { // the second copy too
		eventually(t, "it is stored", func() bool { _, err := os.Stat(p.file(layer)); return err == nil })
	}
	for _, p := range order[:2] {
		spoil(t, p.file(layer), layer.size/2)
	}
	for try := 0; ; try++ {
		var wrong, cut atomic.Int64
		var all sync.WaitGroup
		for range 16 {
			client := order[2].client(1)
			all.Go(func() {
				switch data, err := client.get(t.Context(), path, ""); {
				case err != nil:
					cut.Add(1)
				case sum(data) != layer.hex():
					wrong.Add(1)
				}
			})
		}
		all.Wait()
		t.Logf("try %d: %d of 16 were cut", try, cut.Load())
		switch {
		case wrong.Load() > 0:
			t.Fatalf("try %d: %d have a whole layer of wrong bytes", try, wrong.Load())
		case cut.Load() == 0:
			if sent, _ := c.sent(layer.digest); sent > 3*layer.size {
				t.Errorf("%d bytes of %d", sent, layer.size)
			}
			return
		case try > 1:
			t.Fatal("it is asked again, and wrong again")
		}
	}
}

// file is where a store has a layer.
func (p *process) file(layer pushedLayer) string {
	return filepath.Join(p.cfg.Data, "blobs", "sha256", layer.hex())
}

func sum(data []byte) string { return fmt.Sprintf("%x", sha256.Sum256(data)) }

func spoil(t *testing.T, file string, at int64) {
	t.Helper()
	err := os.Chmod(file, 0o600)
	f, opened := os.OpenFile(file, os.O_RDWR, 0)
	if err = errors.Join(err, opened); err != nil {
		t.Fatal(err)
	}
	one := make([]byte, 1)
	_, err = f.ReadAt(one, at)
	one[0] ^= 1
	_, written := f.WriteAt(one, at)
	if err = errors.Join(err, written, f.Close()); err != nil {
		t.Fatal(err)
	}
}

// TestTwoCopies: what one node pulled is on two stores; with one of them lost, and without the
// registry, it is still served, by a store that never had it.
func TestTwoCopies(t *testing.T) {
	t.Parallel()
	c := three(t)
	c.launch(c.stores...)
	layer := c.stores[0].push("v1", 1, 1<<20).layers[0]
	order, path := c.of(layer.digest), tool+"/blobs/"+layer.digest
	has := func(p *process) bool {
		_, err := os.Stat(p.file(layer))
		return err == nil
	}
	if _, err := order[0].client(1).get(t.Context(), path, ""); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the second copy", func() bool { return has(order[1]) })
	if has(order[2]) {
		t.Error("the third one has it too, and nobody asked there")
	}
	if sent, _ := c.sent(layer.digest); sent != layer.size {
		t.Errorf("%d bytes of %d", sent, layer.size)
	}
	c.registry.Stop()
	order[0].end(order[0].stop, order[0].ended)
	if _, err := order[2].client(1).get(t.Context(), path, ""); err != nil {
		t.Error(err)
	}
}

// TestWhoMayWant: a store that tells of a blob has it fetched. Nobody else can have anything fetched
// by that, and what is told is content by its digest.
func TestWhoMayWant(t *testing.T) {
	t.Parallel()
	c := three(t)
	c.launch(c.stores...)
	layer := c.stores[0].push("v1", 1, 100_000).layers[0]
	order := c.of(layer.digest)
	first, blob := order[0], "/-/want/v2/"+tool+"/blobs/"+layer.digest
	own, ownKey := c.leaf("registry.d8-system.svc")
	want := func(client *client, path, password string) int {
		t.Helper()
		client.base = "https://" + first.clients
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, client.base+path+"?ns=registry.d8-system.svc:5001", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Registry-Hop", "1")
		if password != "" {
			req.SetBasicAuth("node", password)
		}
		resp, err := client.http.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		return resp.StatusCode
	}
	store := func() *client { return c.asStore(order[1], first, nil, nil) }
	for name, tc := range map[string]struct{ got, want int }{
		"nobody":    {want(first.client(1), blob, ""), http.StatusUnauthorized},
		"the proxy": {want(c.asStore(nil, first, own, ownKey), blob, ""), http.StatusUnauthorized},
		"a node":    {want(first.client(1), blob, fronttest.NodePassword), http.StatusNotFound},
		"a tag":     {want(store(), "/-/want/v2/"+tool+"/manifests/v1", ""), http.StatusMethodNotAllowed},
		"a list":    {want(store(), "/-/want/v2/"+tool+"/tags/list", ""), http.StatusMethodNotAllowed},
		"referrers": {want(store(), "/-/want/v2/"+tool+"/referrers/"+layer.digest, ""), http.StatusMethodNotAllowed},
		"no digest": {want(store(), "/-/want/v2/"+tool+"/blobs/sha256:1", ""), http.StatusBadRequest},
		"no path":   {want(store(), "/-/want/../../etc/passwd", ""), http.StatusMethodNotAllowed},
	} {
		if tc.got != tc.want {
			t.Errorf("%s: %d, want %d", name, tc.got, tc.want)
		}
	}
	if n := c.registry.Count(func(q testregistry.Request) bool { return !q.Token && q.Digest != "" }); n != 0 {
		t.Errorf("%d requests for strangers", n)
	}
	if got := want(store(), blob, ""); got != http.StatusAccepted {
		t.Errorf("a store: %d", got)
	}
	eventually(t, "what a store told of is here", func() bool { return first.status().Stored.Blobs == 1 })
}
