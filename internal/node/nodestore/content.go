package nodestore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/datapath/store/peer"
	"github.com/d8-registry/registry/internal/node/nodeservices"
	"github.com/d8-registry/registry/internal/node/report"
	"github.com/d8-registry/registry/internal/pod"
)

const (
	// patience is how long the API server may take for one Secret.
	patience = 10 * time.Second
	// mostContent is what a Secret may have, in bytes: more is none of the API server's.
	mostContent = 2 << 20
	// mostStores bounds a list: there is no more than a store for each node of a control plane.
	mostStores = 64
)

// errUnread is that what the store serves by is not there, or cannot be read now: that is
// waited for.
var errUnread = errors.New("it waits for what it is to serve by")

// content is what a store serves by, and the version of the Secret that it is from.
type content struct {
	version string
	data    map[string][]byte
}

// read gets it, as it is in the API server now.
func (p *Part) read(ctx context.Context) (content, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	const name = v1alpha1.SecretStore
	o, err := p.Kube.Resource(corev1.SchemeGroupVersion.WithResource("secrets")).Namespace(v1alpha1.Namespace).Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return content{}, fmt.Errorf("%w: there is no Secret %s", errUnread, name)
	}
	if err != nil {
		return content{}, fmt.Errorf("%w: read Secret %s: %s", errUnread, name, report.Brief(err))
	}
	var secret corev1.Secret
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(o.Object, &secret); err != nil {
		return content{}, fmt.Errorf("decode Secret %s: it is none", name) // the cause may quote it
	}
	size := 0
	for _, data := range secret.Data {
		size += len(data)
	}
	if size > mostContent {
		return content{}, fmt.Errorf("read Secret %s: it has %d bytes", name, size)
	}
	return content{secret.ResourceVersion, secret.Data}, nil
}

// into adds it to a Config. The Config of a store says who it is itself.
func (c content) into(to *nodeservices.Config) error {
	to.Layout, to.Users, to.Pins = c.data[v1alpha1.KeyProxyLayout], c.data[v1alpha1.KeyProxyUsers], c.data[v1alpha1.KeyStorePins]
	others := c.data[v1alpha1.KeyStoreEndpoints]
	if len(others) == 0 {
		return nil // alone
	}
	stores := peer.Stores{Self: endpointOf(to.Pod), CA: string(c.data[v1alpha1.KeyStoreCA])}
	if json.Unmarshal(others, &stores.Endpoints) != nil || len(stores.Endpoints) > mostStores {
		return fmt.Errorf("key %s of Secret %s is no list of at most %d addresses", v1alpha1.KeyStoreEndpoints, v1alpha1.SecretStore, mostStores)
	}
	for _, endpoint := range stores.Endpoints {
		if at, err := netip.ParseAddrPort(endpoint); err != nil || at.String() != endpoint {
			return fmt.Errorf("key %s of Secret %s has what is no IP and port", v1alpha1.KeyStoreEndpoints, v1alpha1.SecretStore)
		}
	}
	var err error
	to.Stores, err = json.Marshal(stores)
	return err //nolint:wrapcheck // it is made of texts
}

// configOf is what the spec says, or why it cannot be.
func configOf(spec *v1alpha1.StoreSpec) (nodeservices.Config, error) {
	store, err := pod.StoreOf(spec)
	c := nodeservices.Config{Pod: store, Certificate: []byte(spec.Certificate)}
	if err == nil {
		c.Names = nodeservices.Names(spec.Addresses, "", "")
	}
	return c, err //nolint:wrapcheck // it is made of texts
}

// endpointOf is where a store serves; empty if its address is none.
func endpointOf(s pod.Store) string {
	ip, err := netip.ParseAddr(s.Address)
	if err != nil || s.Port < 1 || s.Port > 65535 {
		return ""
	}
	return netip.AddrPortFrom(ip, uint16(s.Port)).String()
}
