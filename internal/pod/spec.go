package pod

import (
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"time"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
)

// mostAddresses is how many addresses a node may have.
const mostAddresses = 8

// word is what a version may be: it becomes an argument, in which a kubelet reads $(…).
var word = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)

// StoreOf is the store that a node is asked for, or why it cannot be: for its static pod, which
// the node writes, and for its DaemonSet, which the controller makes. What is on the disk beside
// it, BesideEtcd, the spec does not say. The controller took the addresses from the Node.
func StoreOf(spec *v1alpha1.StoreSpec) (Store, error) {
	s := Store{
		Image: spec.Image, Version: spec.Version, Port: int(spec.Port), Path: spec.Path, Quota: spec.Quota, Floor: spec.Floor,
	}
	switch {
	case len(spec.Addresses) == 0:
		return s, errors.New("the Node has no InternalIP")
	case len(spec.Addresses) > mostAddresses:
		return s, fmt.Errorf("%d addresses are too many", len(spec.Addresses))
	case !word.MatchString(spec.Version):
		return s, errors.New("its version is no word")
	case spec.Quota < 0 || spec.Floor < 0:
		return s, errors.New("quota or floor is below 0")
	}
	s.Address = spec.Addresses[0]
	for _, a := range spec.Addresses {
		if ip, err := netip.ParseAddr(a); err != nil || ip.String() != a {
			return s, errors.New("an address is none, or is not written as usual")
		}
	}
	if spec.TTL != "" {
		ttl, err := time.ParseDuration(spec.TTL)
		if err != nil || ttl <= 0 {
			return s, errors.New("ttl is no time")
		}
		s.TTL = ttl
	}
	return s, nil
}
