package inbound

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"testing"
)

// TestProfiles: only where an address is named, and not where somebody else listens.
func TestProfiles(t *testing.T) {
	t.Parallel()
	on, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address, log := on.Addr().String(), slog.New(slog.DiscardHandler)
	for _, none := range []string{"", "0"} {
		if err := ServeProfiles(t.Context(), none, nil, log); err != nil {
			t.Errorf("%q: %v", none, err)
		}
	}
	if err := ServeProfiles(t.Context(), address, nil, log); err == nil {
		t.Error("somebody else listens there")
	}
	_ = on.Close()
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- ServeProfiles(ctx, address, nil, log) }()
	until(t, "profiles are served", func() bool {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address+"/debug/pprof/heap", nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := new(http.Transport).RoundTrip(req)
		if err != nil {
			return false
		}
		_ = resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
