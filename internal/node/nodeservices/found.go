package nodeservices

import (
	"errors"
	"io/fs"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/pki"
)

// State is how a node is compared with a Config.
type State string

// The states.
const (
	// Nothing of a store is there, no key either.
	Nothing State = "Nothing"
	// CertificateMissing is that none was signed for the key of this node, whatever else is
	// there: a store that runs goes on by what it has.
	CertificateMissing State = "CertificateMissing"
	// Differs is that something is there, and not all of it is what is wanted.
	Differs State = "Differs"
	// Written is that all is as wanted. Whether it runs, it says itself, see package status.
	Written State = "Written"
)

// Found is what is on a node of a store, for the report.
type Found struct {
	State State
	// Request asks for a certificate for the key of this node, PEM; empty without a key.
	Request string
	// Version and Hash are those of the manifest that is there, whatever is wanted.
	Version, Hash string
}

// Look says what is there. It changes nothing.
func (k *Keeper) Look(c Config) (Found, error) {
	if err := k.safe(); err != nil {
		return Found{}, err
	}
	key, _, err := k.read(k.files(c, "")[0].name)
	if err != nil {
		return Found{}, err
	}
	f := Found{State: Nothing}
	all := k.files(c, string(key))
	if k.manifests != "" {
		m, err := k.manifest(c)
		if err != nil {
			return Found{}, err
		}
		all = append(all, m)
		if f.Version, f.Hash, err = k.annotations(m.name); err != nil {
			return Found{}, err
		}
	}
	there, same, err := k.compare(all)
	if err != nil {
		return Found{}, err
	}
	if request, err := pki.Request(string(key), c.Names); err == nil {
		f.Request = request // else Apply makes another key
	}
	switch {
	case !there:
	case (pki.KeyPair{Cert: string(c.Certificate), Key: string(key)}).Belongs() != nil:
		f.State = CertificateMissing
	case same && k.hasDataDir(inHost(c.Pod.Path)):
		f.State = Written
	default:
		f.State = Differs
	}
	return f, nil
}

// safe returns nil if nobody but root can have put anything where files are looked at.
func (k *Keeper) safe() error {
	for _, folder := range []string{configDir, k.manifests} {
		if folder == "" {
			continue
		}
		if err := k.trusted(folder); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// compare says whether any of the files is there, and whether all are as they should be.
func (k *Keeper) compare(all []file) (there, same bool, err error) {
	same = true
	for _, f := range all {
		is, was, err := k.is(f)
		if err != nil {
			return false, false, err
		}
		there, same = there || was, same && is
	}
	return there, same, nil
}

// annotations are version and hash of a manifest; empty if there is none that can be read.
func (k *Keeper) annotations(name string) (version, hash string, err error) {
	text, _, err := k.read(name)
	if err != nil {
		return "", "", err
	}
	var pod metav1.PartialObjectMetadata
	if yaml.Unmarshal(text, &pod) != nil {
		return "", "", nil
	}
	return pod.Annotations[v1alpha1.AnnotationConfigVersion], pod.Annotations[v1alpha1.AnnotationConfigHash], nil
}
