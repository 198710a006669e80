package controller

import (
	"errors"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/d8-registry/registry/internal/control/state"
	"github.com/d8-registry/registry/internal/pki"
)

// identity is, as metrics, when certificates end and since when rotations are under
// way.
type identity struct{ ends, started *prometheus.GaugeVec }

// newIdentity registers the metrics.
func newIdentity(in prometheus.Registerer) (identity, error) {
	m := identity{
		ends: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "registry_certificate_expiry_timestamp_seconds", Help: "When the CA of the module and the certificate of the in-cluster proxy end.",
		}, []string{"certificate"}),
		started: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "registry_rotation_started_timestamp_seconds", Help: "Since when a rotation is under way.",
		}, []string{"secret"}),
	}
	if err := errors.Join(in.Register(m.ends), in.Register(m.started)); err != nil {
		return m, fmt.Errorf("register metrics of certificates: %w", err)
	}
	return m, nil
}

// set shows what a document says. A certificate that cannot be read, or is not there,
// shows nothing.
func (m identity) set(doc state.Document) {
	for name, pair := range map[string]pki.KeyPair{"ca": doc.PKI.CA, "leaf": doc.PKI.Leaf} {
		if at := pair.Expires(); at.IsZero() {
			m.ends.DeleteLabelValues(name)
		} else {
			m.ends.WithLabelValues(name).Set(float64(at.Unix()))
		}
	}
	m.started.Reset()
	for _, r := range doc.RotationsUnderWay() {
		m.started.WithLabelValues(r.Of).Set(float64(r.Since.Unix()))
	}
}
