package pullsecret

import (
	"context"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/control/cluster"
	"github.com/d8-registry/registry/internal/control/state"
	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/upstream"
)

// Keys of Secret deckhouse-registry, as platform components read them.
const (
	keyAddress = "address"
	keyPath    = "path"
	keyScheme  = "scheme"
	keyCA      = "ca"
)

// Installation is the registry that Secret deckhouse-registry names, or the
// problem, for users, why it names none.
func Installation(secret *corev1.Secret) (upstream.Upstream, string) {
	if secret == nil {
		return upstream.Upstream{}, "Secret d8-system/deckhouse-registry does not exist."
	}
	address := string(secret.Data[keyAddress])
	if strings.EqualFold(address, layout.Fixed().Host) {
		return upstream.Upstream{}, "Secret d8-system/deckhouse-registry names the fixed address, which is no registry of its own."
	}
	settings := upstream.Settings{
		ImagesRepo: address + "/" + strings.Trim(string(secret.Data[keyPath]), "/"),
		Scheme:     string(secret.Data[keyScheme]),
		CA:         string(secret.Data[keyCA]),
	}
	if address == "" {
		return upstream.Upstream{}, "Secret d8-system/deckhouse-registry: Registry address is required."
	}
	credentials, err := CredentialsFor(secret.Data[corev1.DockerConfigJsonKey], settings.ImagesRepo)
	if err != nil {
		return upstream.Upstream{}, "Secret d8-system/deckhouse-registry: " + err.Error() + "."
	}
	settings.Username, settings.Password = credentials.Username, credentials.Password
	u, err := upstream.Parse(settings)
	if err != nil {
		return upstream.Upstream{}, fmt.Sprintf("Secret d8-system/deckhouse-registry: %v.", err)
	}
	u.Provided = isProvided(secret)
	return u.Lasting(), ""
}

// isProvided reports whether the Secret's credentials are for a while, and ours to
// renew.
func isProvided(secret *corev1.Secret) bool {
	return secret != nil && secret.Annotations[v1alpha1.AnnotationCredentials] == v1alpha1.CredentialsProvided
}

// RegistryChange is Secret deckhouse-registry as it should be; nil when nothing
// is to be written or the Secret is the user's.
func RegistryChange(v *state.View) *corev1.Secret {
	target := v.Doc.Desired.Registry
	if target.IsZero() {
		return nil
	}
	want := withAuths(v.Registry, v1alpha1.Namespace, auths(v.Doc, pullTargets(v.Doc)), knownHosts(v.Doc))
	changed := want != nil
	if want == nil {
		want = v.Registry.DeepCopy()
	}
	name := target.Name()
	u := target.Upstream
	if target.HasFixedAddress() {
		u = upstream.Upstream{Scheme: upstream.HTTPS, CA: v.Doc.PKI.Trusted()}
	}
	fields := map[string]string{keyAddress: name.Host, keyPath: "", keyScheme: string(u.Scheme), keyCA: u.CA}
	if target.HasFixedAddress() && u.CA == "" {
		delete(fields, keyCA) // a CA that cannot be read is not shown: what clients trust stays
	}
	if name.Path != "" {
		fields[keyPath] = "/" + name.Path
	}
	for field, value := range fields {
		if have, ok := want.Data[field]; !ok || string(have) != value {
			want.Data[field] = []byte(value)
			changed = true
		}
	}
	if u.Provided != isProvided(want) {
		if changed = true; u.Provided {
			cluster.SetAnnotation(want, v1alpha1.AnnotationCredentials, v1alpha1.CredentialsProvided)
		} else {
			delete(want.Annotations, v1alpha1.AnnotationCredentials)
		}
	}
	if !changed {
		return nil
	}
	return want
}

// ApplyRegistry writes Secret deckhouse-registry, which platform components read.
// It makes an Event if somebody else has changed it.
func (k *Keeper) ApplyRegistry(ctx context.Context, v *state.View) error {
	want := RegistryChange(v)
	if want == nil || namesTooEarly(v) {
		return nil
	}
	wrote := v.Doc.RegistryChecksum()
	if have := v.Registry; have != nil && have.Annotations[v1alpha1.AnnotationRegistryChecksum] == wrote && string(have.Data[keyAddress]) != string(want.Data[keyAddress]) {
		k.cluster.Events.Normalf(want, "RegistrySecretHealed", "somebody changed the Secret while the module keeps it; it names %s again", v.Doc.Desired.Registry.Name())
	}
	cluster.SetAnnotation(want, v1alpha1.AnnotationRegistryChecksum, wrote)
	if err := k.cluster.Put(ctx, want); err != nil {
		return fmt.Errorf("write secret %s: %w", want.Name, err)
	}
	return nil
}

// namesTooEarly reports whether deckhouse-registry would name the target for the
// first time although not every node knows the target's name.
func namesTooEarly(v *state.View) bool {
	have := v.Registry
	return !v.Doc.Desired.Repoint && v.Doc.Desired.Registry == v.Doc.Target && v.Doc.Desired.Workloads == v.Doc.Target.Name() &&
		have != nil && have.Annotations[v1alpha1.AnnotationRegistryChecksum] != v.Doc.RegistryChecksum()
}
