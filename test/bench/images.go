package main

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"time"

	"github.com/d8-registry/registry/internal/control/precheck"
	"github.com/d8-registry/registry/internal/datapath/judge"
	"github.com/d8-registry/registry/internal/datapath/transport"
	"github.com/d8-registry/registry/internal/upstream"
	"github.com/d8-registry/registry/test/harness/cert"
)

// delay is how long the registry of the image check takes for each answer.
const delay = 30 * time.Millisecond

// atOnce is how many images the image check asks for at a time: see package precheck.
const atOnce = 3

// checkImages is how long the image check takes for so many, as a multiple of what the
// registry's delay alone would make it.
func checkImages(ctx context.Context, images int) (float64, error) {
	ca, err := cert.NewAuthority("bench")
	if err != nil {
		return 0, err
	}
	secured, err := ca.ServerConfig("127.0.0.1")
	if err != nil {
		return 0, err
	}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		<-time.After(delay)
		w.Header().Set("Content-Type", judge.OCIManifest)
		w.Header().Set("Content-Length", "1500")
		w.Header().Set("Docker-Content-Digest", "sha256:0000000000000000000000000000000000000000000000000000000000000000")
	}))
	server.TLS = secured
	server.StartTLS()
	defer server.Close()
	want := precheck.Request{Upstream: upstream.Upstream{Host: server.Listener.Addr().String(), Path: "bench", Scheme: upstream.HTTPS, CA: ca.PEM}}
	for i := range images {
		want.Images = append(want.Images, fmt.Sprintf("m%d:v1", i))
	}
	check := precheck.Checker{Transport: func(u upstream.Upstream) (http.RoundTripper, error) { return transport.New(u) }}
	begin := time.Now()
	report := check.Check(ctx, want)
	if report.Done != images {
		return 0, fmt.Errorf("the image check found %d of %d: %s", report.Done, images, report.Problem)
	}
	return time.Since(begin).Seconds() / (float64(images) * delay.Seconds() / atOnce), nil
}
