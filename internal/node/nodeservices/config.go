package nodeservices

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"path"
	"strings"

	corev1 "k8s.io/api/core/v1"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/pki"
	"github.com/d8-registry/registry/internal/pod"
)

// The files in pod.ConfigDir; others in it are not ours. registry-store reads them by these
// names.
const (
	fileLayout      = v1alpha1.KeyProxyLayout
	fileUsers       = v1alpha1.KeyProxyUsers
	filePins        = "pins"
	fileStores      = "stores"
	fileCertificate = corev1.TLSCertKey
	fileKey         = corev1.TLSPrivateKeyKey
)

// maxFile is what registry-store reads of one of them at most, in bytes.
const maxFile = 2 << 20

// Config is what a node is to run.
type Config struct {
	// Pod is what the process is started with. BesideEtcd is found out here.
	Pod pod.Store
	// Layout and Users are what the store routes by and who may come (hashes). Pins is what it
	// never evicts, Stores who the others are; without them there is no such file.
	Layout, Users, Pins, Stores []byte
	// Certificate is what was signed for the key of this node, with its chain; empty before.
	Certificate []byte
	// Names are what a certificate is asked for, see Names.
	Names []string
}

// String keeps users and the like from being printed.
func (c Config) String() string { return "store of " + c.Pod.Image }

// GoString keeps them from %#v.
func (c Config) GoString() string { return c.String() }

// LogValue keeps them from slog.
func (c Config) LogValue() slog.Value { return slog.StringValue(c.String()) }

// Names are those by which clients and other stores call a store: the node's addresses,
// itself, and the Services in front of stores.
func Names(addresses []string, clusterDomain, clusterIP string) []string {
	names := pki.ServiceNames(clusterDomain, append([]string{"127.0.0.1", clusterIP}, addresses...)...)
	return append(names, "registry-local."+v1alpha1.Namespace+".svc")
}

// check says what is wrong with a Config, before anything is written.
func (c Config) check() error {
	address, err := netip.ParseAddr(c.Pod.Address)
	switch {
	case c.Pod.Image == "" || strings.ContainsAny(c.Pod.Image, " \t\r\n"):
		return fmt.Errorf("image %q is none", c.Pod.Image)
	case c.Pod.Port < 1 || c.Pod.Port > 65535:
		return fmt.Errorf("port %d is none", c.Pod.Port)
	case err != nil || address.Zone() != "" || !address.IsGlobalUnicast():
		return fmt.Errorf("address %q is no address of a node", c.Pod.Address)
	case !isFolder(c.Pod.Path):
		return fmt.Errorf("path %q is no folder for a store", c.Pod.Path)
	case len(c.Layout) == 0 || len(c.Users) == 0:
		return errors.New("a store needs a layout and users")
	}
	for _, data := range [][]byte{c.Layout, c.Users, c.Pins, c.Stores, c.Certificate} {
		if len(data) > maxFile {
			return fmt.Errorf("a file of %d bytes is over %d", len(data), maxFile)
		}
	}
	return nil
}

// isFolder reports whether a path may be that of a store: no folder of the root, and nothing
// that the kubelet would read as more than a path.
func isFolder(name string) bool {
	return path.IsAbs(name) && path.Clean(name) == name && strings.Count(name, "/") > 1 && !strings.ContainsAny(name, ":$ \t\r\n")
}
