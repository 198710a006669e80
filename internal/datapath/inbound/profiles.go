package inbound

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
)

// ServeProfiles serves what "go tool pprof" asks for, on an address without TLS, until the
// context ends. "" and "0" are no address: then nothing listens. Whoever reaches it may ask;
// what it shows is the program's own work, and no request.
func ServeProfiles(ctx context.Context, address string, metrics *Metrics, log *slog.Logger) error {
	if address == "" || address == "0" {
		return nil
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return fmt.Errorf("listen for profiles: %w", err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	return New(mux, Config{Name: "profiles", Limits: Probes(), Metrics: metrics, Log: log}).Serve(ctx, listener, Drain{})
}

// ProfilesFlag is the usage of a program's flag for that address.
const ProfilesFlag = `address of profiles for "go tool pprof"; "0": none. Whoever reaches it may ask, so name one of loopback`
