package machine

import (
	"context"
	"fmt"
	"net"
	"net/http"

	"github.com/d8-registry/registry/test/harness/testregistry"
)

// startWebServer has a host that answers everything with a web page, on port 80 of an
// address of its own, until the run ends.
func startWebServer(ctx context.Context, r *Run, n *Network, host string) error {
	space, err := n.NewSpace(ctx, host)
	if err != nil {
		return err
	}
	n.AddHost(space.IP, host)
	listener, err := space.Listen(ctx, net.JoinHostPort(space.IP.String(), "80"))
	if err != nil {
		return fmt.Errorf("web server %s: %w", host, err)
	}
	server := &http.Server{Handler: http.HandlerFunc(testregistry.WebPage), ReadHeaderTimeout: stopAfter}
	r.OnClose(func() { _ = server.Close() })
	go func() { _ = server.Serve(listener) }() // until Close
	return nil
}
