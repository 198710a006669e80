package pullsecret

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/control/cluster"
	"github.com/d8-registry/registry/internal/control/state"
	"github.com/d8-registry/registry/internal/control/switchover"
	"github.com/d8-registry/registry/internal/layout"
)

// Apply writes the image pull secrets that platform workloads use, in their
// namespaces, before their templates change. A namespace that refuses its copy
// blocks its own workloads and nobody else.
func (k *Keeper) Apply(ctx context.Context, v *state.View) error {
	v.Blocked = map[string]error{}
	for _, secret := range Changes(v) {
		err := k.cluster.PutSecret(ctx, secret)
		if err != nil {
			err = fmt.Errorf("write pull secret %s: %w", cluster.Key(secret), err)
		}
		switch {
		case secret.Namespace != v1alpha1.Namespace:
			if err != nil {
				v.Blocked[secret.Namespace] = err
			}
		case err != nil:
			return err
		default:
			v.Registry = secret // what follows writes it again
		}
	}
	return nil
}

// Changes are the pull secrets that are not as desired, as they should be:
// deckhouse-registry itself unless it is the user's, and its copy in each
// namespace in which something of the platform refers to it.
func Changes(v *state.View) []*corev1.Secret {
	if len(v.Doc.Desired.PullSecrets) == 0 {
		return nil
	}
	entries, hosts := auths(v.Doc, pullTargets(v.Doc)), knownHosts(v.Doc)
	var changes []*corev1.Secret
	if !v.Doc.Desired.Registry.IsZero() {
		if want := withAuths(v.Registry, v1alpha1.Namespace, entries, hosts); want != nil {
			changes = append(changes, want)
		}
	}
	for _, namespace := range pullNamespaces(v) {
		have := v.Secrets[client.ObjectKey{Namespace: namespace, Name: v1alpha1.SecretRegistry}]
		if have != nil && have.Type != corev1.SecretTypeDockerConfigJson {
			// The type of a Secret cannot be changed, and deleting one that
			// pods pull with is worse than leaving it.
			continue
		}
		if want := withAuths(have, namespace, entries, hosts); want != nil {
			changes = append(changes, want)
		}
	}
	return changes
}

// pullNamespaces are the platform's namespaces besides d8-system in which
// something refers to deckhouse-registry or a copy was left. Labels of the
// objects in a namespace do not make it the platform's: whoever may make pods
// in their own namespace must not be handed the registry's credentials.
func pullNamespaces(v *state.View) []string {
	refers := map[string]bool{}
	note := func(namespace string, spec *corev1.PodSpec) {
		if cluster.PullsWith(spec.ImagePullSecrets, v1alpha1.SecretRegistry) {
			refers[namespace] = true
		}
	}
	for _, w := range v.Inventory.Workloads() {
		note(w.GetNamespace(), &w.Template.Spec)
	}
	for i := range v.Inventory.Jobs {
		note(v.Inventory.Jobs[i].Namespace, &v.Inventory.Jobs[i].Spec.Template.Spec)
	}
	for i := range v.Inventory.Pods {
		note(v.Inventory.Pods[i].Namespace, &v.Inventory.Pods[i].Spec)
	}
	for id, secret := range v.Secrets {
		if id.Name == v1alpha1.SecretRegistry && secret.Annotations[v1alpha1.AnnotationHosts] != "" {
			refers[id.Namespace] = true
		}
	}
	maps.DeleteFunc(refers, func(namespace string, _ bool) bool {
		return namespace == v1alpha1.Namespace || v.Inventory.Ending[namespace] || !v.Inventory.IsPlatforms(namespace)
	})
	return slices.Sorted(maps.Keys(refers))
}

// withAuths is the Secret with exactly these entries for hosts that we know,
// beside the user's for others; nil when it is so already.
func withAuths(have *corev1.Secret, namespace string, auths map[string]dockerAuth, hosts map[string]bool) *corev1.Secret {
	want := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: v1alpha1.SecretRegistry},
		Type:       corev1.SecretTypeDockerConfigJson,
	}
	if have != nil {
		want = have.DeepCopy()
	} else {
		cluster.SetLabels(want, cluster.Ours())
	}
	var config map[string]json.RawMessage
	if json.Unmarshal(want.Data[corev1.DockerConfigJsonKey], &config) != nil || config == nil {
		config = map[string]json.RawMessage{}
	}
	entries := map[string]json.RawMessage{}
	if json.Unmarshal(config["auths"], &entries) != nil || entries == nil {
		entries = map[string]json.RawMessage{}
	}
	for _, host := range strings.Split(want.Annotations[v1alpha1.AnnotationHosts], ",") {
		delete(entries, host)
	}
	// However an installer spelled it: an entry that stays is a credential that
	// outlives its registry, and one that is read back instead of ours.
	maps.DeleteFunc(entries, func(key string, _ json.RawMessage) bool {
		host, _, _ := strings.Cut(dockerName(key), "/")
		return hosts[host]
	})
	for host, auth := range auths {
		entries[host] = cluster.MustJSON(auth)
	}
	config["auths"] = cluster.MustJSON(entries)
	if want.Data == nil {
		want.Data = map[string][]byte{}
	}
	want.Data[corev1.DockerConfigJsonKey] = cluster.MustJSON(config)
	cluster.SetAnnotation(want, v1alpha1.AnnotationHosts, strings.Join(slices.Sorted(maps.Keys(auths)), ","))
	if have != nil && sameJSON(have.Data[corev1.DockerConfigJsonKey], want.Data[corev1.DockerConfigJsonKey]) && maps.Equal(have.Annotations, want.Annotations) {
		return nil
	}
	return want
}

// pullTargets are the targets that pull secrets know, the wanted one first.
func pullTargets(d state.Document) []switchover.Target {
	targets := slices.Clone(d.Desired.PullSecrets)
	if r := d.Desired.Registry; !r.IsZero() && !slices.Contains(targets, r) {
		targets = append(targets, r)
	}
	return targets
}

// auths are the docker config entries of targets, the wanted one first. A host
// has one entry if all its targets go by one name. Otherwise each name has its
// own beside that of the host, so that the longest key is the right one for
// each, and the host's is the wanted target's.
func auths(d state.Document, targets []switchover.Target) map[string]dockerAuth {
	auths, names := map[string]dockerAuth{}, map[string]int{}
	add := func(key string, auth dockerAuth) bool {
		_, taken := auths[key]
		if !taken {
			auths[key] = auth
		}
		return !taken
	}
	for _, t := range targets {
		if add(t.Name().String(), newAuth(d.Credentials(t))) {
			names[t.Name().Host]++
		}
	}
	for _, t := range targets {
		name := t.Name()
		add(name.Host, newAuth(d.Credentials(t)))
		if names[name.Host] == 1 && name.Path != "" {
			delete(auths, name.String())
		}
	}
	return auths
}

// knownHosts are the hosts whose entries in pull secrets are ours to say.
func knownHosts(d state.Document) map[string]bool {
	hosts := map[string]bool{layout.Fixed().Host: true}
	for _, name := range d.KnownNames() {
		hosts[name.Host] = true
	}
	for _, t := range pullTargets(d) {
		hosts[t.Name().Host], hosts[t.Upstream.Host] = true, true
	}
	return hosts
}

func sameJSON(a, b []byte) bool {
	var x, y any
	if json.Unmarshal(a, &x) != nil || json.Unmarshal(b, &y) != nil {
		return false
	}
	return string(cluster.MustJSON(x)) == string(cluster.MustJSON(y))
}
