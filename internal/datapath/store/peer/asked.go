package peer

import (
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"github.com/d8-registry/registry/internal/datapath/oci"
)

// Around lets other stores come to the pulls by their certificates, and tell what they have. For
// everybody else there are no hops. It is called once, before Run.
func (p *Peers) Around(pulls, others http.Handler) http.Handler {
	p.pulls = pulls
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Header.Get(oci.HeaderHop) == "":
			others.ServeHTTP(w, r)
		case !p.now.Load().know(r.TLS):
			r = r.Clone(r.Context())
			r.Header.Del(oci.HeaderHop)
			others.ServeHTTP(w, r)
		case strings.HasPrefix(r.URL.Path, wantPath+"/"):
			p.want(w, r)
		case r.Header.Get("Cache-Control") == oci.OnlyKept && !p.has(r):
			oci.WriteError(w, r, http.StatusNotFound, oci.CodeBlobUnknown, "it is not kept here")
		default:
			pulls.ServeHTTP(w, r)
		}
	})
}

// has reports whether what is asked for is kept here.
func (p *Peers) has(r *http.Request) bool {
	pull, err := oci.Parse(r)
	return err == nil && isContent(pull) && p.cfg.Has(pull.Reference)
}

// know reports whether a connection is another store's: its certificate is of the CA of all, and
// for the address of one. Others have certificates of that CA too. They all are for servers.
func (p *peers) know(with *tls.ConnectionState) bool {
	if with == nil || len(with.PeerCertificates) == 0 || p.roots == nil {
		return false
	}
	between := x509.NewCertPool()
	for _, c := range with.PeerCertificates[1:] {
		between.AddCert(c)
	}
	shown := with.PeerCertificates[0]
	_, err := shown.Verify(x509.VerifyOptions{Roots: p.roots, Intermediates: between, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
	return err == nil && slices.ContainsFunc(p.Endpoints, func(endpoint string) bool {
		at, err := netip.ParseAddrPort(endpoint)
		return err == nil && endpoint != p.Self && shown.VerifyHostname(at.Addr().String()) == nil
	})
}
