package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/d8-registry/registry/internal/datapath/front"
	"github.com/d8-registry/registry/internal/datapath/store/images"
	"github.com/d8-registry/registry/internal/datapath/store/peer"
	"github.com/d8-registry/registry/internal/datapath/store/status"
	"github.com/d8-registry/registry/internal/foreign"
	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/version"
)

// statusPage answers this machine only: nobody else has business with it.
type statusPage struct {
	version string // of the configuration
	front   *front.Front
	volume  *volume
	pins    *pins
	others  *peer.Peers
}

func (p *statusPage) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if ip := net.ParseIP(host); err != nil || ip == nil || !ip.IsLoopback() {
		http.Error(w, "only for this machine", http.StatusForbidden)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(p.status()) // the client may be gone
}

func (p *statusPage) status() status.Store {
	s := p.front.Status()
	out := status.Store{
		Program: version.Version(), LayoutSchema: layout.Newest, ConfigVersion: p.version,
		Generation: s.Generation, Proven: s.Proven, Version: s.Version, Identity: s.Identity,
		TargetFails: line(s.TargetFails), OldUse: p.front.Usage.Old(),
		Problem: text(errors.Join(s.Problem, p.pins.trouble(), p.others.Problem(), p.volume.trouble())),
	}
	missing := p.front.Ready()
	out.Ready, out.Missing = missing == nil, text(missing)
	if at, clients := p.front.Usage.Latest(); !at.IsZero() {
		out.LastUse, out.LastClients = at.UTC().Format(time.RFC3339), clients
	}
	if u, open := p.volume.usage(); open {
		pinned := p.volume.images.Count()
		out.Stored = &status.Disk{
			Bytes: u.Kept, Blobs: u.Blobs, Coming: u.Coming, Quota: u.Quota, Floor: u.Floor,
			Pins: pinned.Images, PinsHere: pinned.Here, PinnedBytes: u.Pinned, PinsOver: u.PinsOver || pinned.Over,
		}
	}
	return out
}

// register has the images in use counted.
func register(registry prometheus.Registerer, all *images.Images) error {
	for _, gauge := range []prometheus.Collector{
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "registry_store_pinned_images", Help: "Images in use, of which nothing is evicted.",
		}, func() float64 { return float64(all.Count().Images) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "registry_store_pinned_images_here", Help: "Images in use of which all is here that is to be.",
		}, func() float64 { return float64(all.Count().Here) }),
	} {
		if err := registry.Register(gauge); err != nil {
			return fmt.Errorf("register the metrics of images: %w", err)
		}
	}
	return nil
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return line(strings.ReplaceAll(err.Error(), "\n", "; "))
}

func line(s string) string { return foreign.Line(foreign.Stable(s), 4*foreign.Sentence) }
