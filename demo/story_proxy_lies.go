package main

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/d8-registry/registry/test/harness/machine"
)

const (
	// lied are the images of which A gives wrong bytes for a while.
	lied       = "extra/lied-"
	liedImages = 4
	// askers pull a layer at each store at once: each may be the one that has it whole.
	askers = 4
)

// errCut is of a layer whose bytes came, and not all of them.
var errCut = errors.New("it broke off")

// errWhole ends the story of a store that does not hold the last byte back.
var errWhole = errors.New("a client has a whole layer of wrong bytes, as must be without that promise")

// registryLies has A give layers with a wrong byte in the middle, and asks each store for them.
// Nobody gets one whole; when A is right again, all nodes pull them.
func (d *demo) registryLies(ctx context.Context, p *phase) error {
	images := slices.DeleteFunc(slices.Clone(d.cluster.Platform.Images), func(i machine.Image) bool { return !strings.HasPrefix(i.Name, lied) })
	var files []string
	for _, image := range images {
		files = append(files, blobFile(d.cluster.Registries[0].Storage(), image.Blobs[1]))
	}
	for _, file := range files {
		if err := spoil(file); err != nil {
			return err
		}
	}
	d.out.step(p.began, "✗", yellow, "%s gives %d layers with a wrong byte in the middle", registryA, len(files))
	whole, cut, err := d.askStores(ctx, images)
	for _, file := range files {
		err = errors.Join(err, os.Rename(file+".right", file))
	}
	if err != nil {
		return err
	}
	d.out.step(p.began, "✓", green, "%d clients asked the stores for them: %d have a whole layer of wrong bytes, the others were told: %v", whole+len(cut), whole, cut[:min(1, len(cut))])
	read := slices.ContainsFunc(cut, func(err error) bool { return errors.Is(err, errCut) })
	p.expect("no client had a whole layer of wrong bytes", whole == 0 && read, "%d of %d clients had", whole, whole+len(cut))
	if d.options.broken == lastByte && whole > 0 {
		return errWhole
	}
	d.out.step(p.began, "→", bold, "%s is right again", registryA)
	return d.pullOn(ctx, p, d.cluster.Nodes, images)
}

// breakStores puts the broken store in the place of the one that ships.
func (d *demo) breakStores(ctx context.Context) error {
	if d.options.broken != lastByte {
		return nil
	}
	const program, instead = "/run/ours/registry-store", "/run/broken-store"
	for _, node := range storeNodes() {
		line := fmt.Sprintf(`printf '#!/bin/sh\nexec /run/ours/%s/registry-store --protocol=%s "$@"\n' >%s && chmod 755 %s && mount --bind %s %s`,
			brokenFolder, lastByte, instead, instead, instead, program)
		if err := d.shell(ctx, node, line); err != nil {
			return err
		}
	}
	return nil
}

// blobFile is where a registry has a blob.
func blobFile(storage, digest string) string {
	hex := strings.TrimPrefix(digest, "sha256:")
	return filepath.Join(storage, "docker", "registry", "v2", "blobs", "sha256", hex[:2], hex, "data")
}

// spoil changes the byte in the middle of a file. What was there stays beside it: it is
// the other registry's too.
func spoil(file string) error {
	data, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("read a layer: %w", err)
	}
	data[len(data)/2]++
	if err := os.Rename(file, file+".right"); err != nil {
		return fmt.Errorf("put a layer aside: %w", err)
	}
	if err := os.WriteFile(file, data, 0o600); err != nil { //nolint:gosec // G703: a file of this run's own registry
		return fmt.Errorf("write a wrong layer: %w", err)
	}
	return nil
}

// askStores asks every store for the layers, and reports how many clients had one whole with wrong
// bytes, and what the others were told.
func (d *demo) askStores(ctx context.Context, images []machine.Image) (whole int, cut []error, err error) {
	var (
		all sync.WaitGroup
		mu  sync.Mutex
	)
	logins, err := machine.Logins(ctx, d.client, "d8-system", []string{"deckhouse-registry"}, fixedName)
	if err != nil {
		return 0, nil, err
	}
	for _, name := range storeNodes() {
		n, err := d.cluster.Node(name)
		if err != nil {
			return 0, nil, err
		}
		for i := range askers * len(images) {
			all.Go(func() {
				got, err := askStore(ctx, n.Space, logins[0], images[i%len(images)].Blobs[1])
				mu.Lock()
				defer mu.Unlock()
				if err != nil {
					cut = append(cut, err)
				} else if got != images[i%len(images)].Blobs[1] {
					whole++
				}
			})
		}
	}
	all.Wait()
	return whole, cut, ctx.Err()
}

// askStore has a node's store give a whole blob, as a client of the Service would, and returns the
// digest of what it gave.
func askStore(ctx context.Context, s *machine.Space, login machine.Login, digest string) (string, error) {
	host, path, _ := strings.Cut(fixedName, "/")
	url := "https://" + s.IP.String() + ":5001/v2/" + path + "/blobs/" + digest + "?ns=" + host
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", fmt.Errorf("ask a store: %w", err)
	}
	req.SetBasicAuth(login.Username, login.Password)
	through := &http.Transport{
		DisableKeepAlives: true, DialContext: s.DialContext,
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, //nolint:gosec // G402: only whether the bytes are right
	}
	resp, err := through.RoundTrip(req)
	if err != nil {
		return "", err
	}
	defer func() { _ = resp.Body.Close() }()
	sum := sha256.New()
	n, err := io.Copy(sum, resp.Body)
	switch {
	case resp.StatusCode != http.StatusOK:
		return "", fmt.Errorf("ask a store: %s", resp.Status)
	case err != nil && n > 0:
		return "", fmt.Errorf("%w: %w after %d bytes", errCut, err, n)
	case err != nil:
		return "", fmt.Errorf("ask a store: %w", err)
	}
	return fmt.Sprintf("sha256:%x", sum.Sum(nil)), nil
}
