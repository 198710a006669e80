package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// pullWithin is more than a registry may take that is tried after another.
const pullWithin = time.Minute

// pull reads an image to the last byte: the library compares manifest, config
// and layers with their digests.
func pull(ctx context.Context, a access, reference string) (blobs int, size int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, pullWithin)
	defer cancel()
	var names []name.Option
	if a.scheme == "http" {
		names = append(names, name.Insecure)
	}
	to, err := name.ParseReference(reference, names...)
	if err != nil {
		return 0, 0, err
	}
	transport, err := a.transport()
	if err != nil {
		return 0, 0, err
	}
	defer transport.CloseIdleConnections()
	options := []remote.Option{
		remote.WithContext(ctx), remote.WithTransport(transport),
		remote.WithRetryBackoff(remote.Backoff{Duration: time.Millisecond, Steps: 1}), remote.WithRetryStatusCodes(0), // nothing is tried twice
	}
	options = append(options, remote.WithAuth(a.auth()))
	img, err := remote.Image(to, options...)
	if err != nil {
		return 0, 0, err
	}
	if _, err := img.RawConfigFile(); err != nil {
		return 0, 0, fmt.Errorf("config: %w", err)
	}
	layers, err := img.Layers()
	if err != nil {
		return 0, 0, fmt.Errorf("layers: %w", err)
	}
	for _, layer := range layers {
		n, err := readLayer(layer)
		if err != nil {
			return blobs, size, fmt.Errorf("layer: %w", err)
		}
		blobs, size = blobs+1, size+n
	}
	return blobs, size, nil
}

func (a access) auth() authn.Authenticator {
	if a.username == "" {
		return authn.Anonymous
	}
	return &authn.Basic{Username: a.username, Password: a.password}
}

func readLayer(layer v1.Layer) (int64, error) {
	r, err := layer.Compressed()
	if err != nil {
		return 0, err
	}
	n, err := io.Copy(io.Discard, r)
	return n, errors.Join(err, r.Close())
}

// transport is made for each pull: connections of the one before are not used,
// so every pull meets the Service as a stranger does.
func (a access) transport() (*http.Transport, error) {
	t := &http.Transport{
		DialContext:           (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
		TLSHandshakeTimeout:   10 * time.Second,
		ResponseHeaderTimeout: 30 * time.Second,
	}
	if a.ca != "" {
		roots := x509.NewCertPool()
		if !roots.AppendCertsFromPEM([]byte(a.ca)) {
			return nil, errors.New("key ca of Secret deckhouse-registry is no PEM")
		}
		t.TLSClientConfig = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	}
	return t, nil
}
