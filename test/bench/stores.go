package main

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/datapath/store/peer"
	"github.com/d8-registry/registry/internal/layout"
)

// The names in the tables of stores.
const (
	cachePlain = "nginx proxy_cache"
	cacheLock  = "nginx, with lock"
	cacheSlice = "nginx, with slice"
	ourStore   = "registry-store"
	ourThree   = "three registry-stores"
)

// maker starts a cache with nothing in it, of one process or of several that clients are spread over.
type maker struct {
	name  string
	start func(ctx context.Context, p *place, folder string) ([]*system, error)
}

func makers() []maker {
	nginxAs := func(name string, lock, slice bool) maker {
		return maker{name, func(ctx context.Context, p *place, folder string) ([]*system, error) {
			if err := os.MkdirAll(filepath.Join(p.dir, folder, "data", "tmp"), 0o750); err != nil {
				return nil, fmt.Errorf("start %s: %w", name, err)
			}
			s, err := p.nginxWith(ctx, folder, "cache.conf", map[string]any{"Lock": lock, "Slice": slice})
			return []*system{s}, err
		}}
	}
	return []maker{
		nginxAs(cachePlain, false, false), nginxAs(cacheLock, true, false), nginxAs(cacheSlice, true, true),
		{cache, func(ctx context.Context, p *place, folder string) ([]*system, error) {
			s, err := p.distributionIn(ctx, folder)
			return []*system{s}, err
		}},
		{ourStore, func(ctx context.Context, p *place, folder string) ([]*system, error) { return p.stores(ctx, folder, 1) }},
		{ourThree, func(ctx context.Context, p *place, folder string) ([]*system, error) { return p.stores(ctx, folder, 3) }},
	}
}

// nodePassword is that of the clients of stores.
const nodePassword = "node"

// stores are several that know each other, or one alone. more are arguments that come last.
func (p *place) stores(ctx context.Context, folder string, n int, more ...string) ([]*system, error) {
	published, err := layout.Encode(p.layout())
	if err != nil {
		return nil, err
	}
	users := fmt.Appendf(nil, "- {name: node, sha256: %x, role: node}\n", sha256.Sum256([]byte(nodePassword)))
	var all []*system
	var endpoints, dirs []string
	for i := range n {
		dir, address, err := p.folder(folder + strconv.Itoa(i))
		if err != nil {
			return nil, err
		}
		endpoints, dirs = append(endpoints, address), append(dirs, dir)
	}
	for i, address := range endpoints {
		files := map[string][]byte{v1alpha1.KeyProxyLayout: published, v1alpha1.KeyProxyUsers: users}
		if n > 1 {
			if files[peer.Key], err = json.Marshal(peer.Stores{Self: address, Endpoints: endpoints, CA: p.ca.PEM}); err != nil {
				return all, fmt.Errorf("start a store: %w", err)
			}
		}
		for name, data := range files {
			err = errors.Join(err, os.WriteFile(filepath.Join(dirs[i], name), data, 0o600))
		}
		if err = errors.Join(err, os.MkdirAll(filepath.Join(dirs[i], "data"), 0o750)); err != nil {
			return all, fmt.Errorf("start a store: %w", err)
		}
		s, err := p.store(ctx, dirs[i], address, more...)
		if s != nil {
			all = append(all, s)
		}
		if err != nil {
			return all, err
		}
	}
	return all, nil
}

// store is one process on what a folder holds.
func (p *place) store(ctx context.Context, dir, address string, more ...string) (*system, error) {
	health, err := free()
	if err != nil {
		return nil, err
	}
	s := &system{
		name: ourStore, address: address, tls: p.clientTLS(address, p.ca.PEM), query: "?ns=" + url.QueryEscape(layout.Fixed().Host),
		path: layout.Fixed().Path + strings.TrimPrefix(repository, "bench"),
		more: "Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte("node:"+nodePassword)) + "\r\n",
	}
	argv := append([]string{
		p.tools.store, "--config-dir", dir, "--data", filepath.Join(dir, "data"), "--listen", address, "--health-listen", health,
		"--quota", strconv.Itoa(16 << 30), "--floor", "0", "--etcd", "",
	}, more...)
	s.process, err = start(ctx, ourStore, health, []string{"MEMORY_LIMIT=1073741824"}, argv...)
	if err != nil {
		return nil, err
	}
	return s, s.serves(ctx)
}

// serves waits until a client gets the manifest.
func (s *system) serves(ctx context.Context) error {
	for limit := time.Now().Add(10 * time.Second); ; <-time.After(2 * time.Millisecond) {
		c, err := dial(ctx, s.address, s.tls)
		if err == nil {
			_, err = c.get(s.request("GET", "/manifests/v1", ""), func(int) bool { return true })
			c.close()
		}
		if err == nil || time.Now().After(limit) {
			return err
		}
	}
}

// sent is what the upstream sent of a blob so far, and in how many answers.
func (p *place) sent(digest string) (bytes, answers int64, err error) {
	<-time.After(100 * time.Millisecond) // nginx notes an answer when it has ended
	data, err := os.ReadFile(filepath.Join(p.up.dir, "sent.log"))
	if err != nil {
		return 0, 0, fmt.Errorf("what the upstream sent: %w", err)
	}
	for line := range strings.Lines(string(data)) {
		uri, n, _ := strings.Cut(strings.TrimSpace(line), " ")
		if !strings.HasSuffix(uri, digest) {
			continue
		}
		sent, err := strconv.ParseInt(n, 10, 64)
		if err != nil {
			return 0, 0, fmt.Errorf("what the upstream sent: %w", err)
		}
		bytes, answers = bytes+sent, answers+1
	}
	return bytes, answers, nil
}

// dialFrom is dial from another address of this machine: a store gives one address a part of its
// connections.
func dialFrom(ctx context.Context, s *system, n int) (*client, error) {
	from := &net.TCPAddr{IP: net.IPv4(127, 0, 7, byte(1+n%20))}
	return dialWith(ctx, &net.Dialer{Timeout: dialTimeout, LocalAddr: from}, s.address, s.tls)
}
