package pullsecret

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/control/cluster"
	"github.com/d8-registry/registry/internal/control/excerpt"
	"github.com/d8-registry/registry/internal/control/state"
	"github.com/d8-registry/registry/internal/control/switchover"
	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/upstream"
)

// Apply writes the pull secrets of platform workloads, before their templates
// change. Where a namespace refuses its copy, only the workloads in it wait.
func (k *Keeper) Apply(ctx context.Context, v *state.View) error {
	v.Blocked = map[string]error{}
	for _, secret := range Changes(v) {
		err := k.cluster.Put(ctx, secret)
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
			v.Registry = secret // ApplyRegistry updates it again
		}
	}
	return nil
}

// Changes are the pull secrets that must be written, as they should be:
// deckhouse-registry itself unless it is the user's and theirs to renew, and its copy in
// each of the platform's namespaces where something refers to it.
func Changes(v *state.View) []*corev1.Secret {
	if len(v.Doc.Desired.PullSecrets) == 0 {
		return nil
	}
	entries, hosts := auths(v.Doc, pullTargets(v.Doc)), knownHosts(v.Doc)
	var changes []*corev1.Secret
	if !v.Doc.Desired.Registry.IsZero() || isProvided(v.Registry) {
		if want := withAuths(v.Registry, v1alpha1.Namespace, entries, hosts); want != nil {
			changes = append(changes, want)
		}
	}
	for _, namespace := range pullNamespaces(v) {
		have := v.Secrets[client.ObjectKey{Namespace: namespace, Name: v1alpha1.SecretRegistry}]
		if have != nil && have.Type != corev1.SecretTypeDockerConfigJson {
			// The type of a Secret cannot be changed, and pods may pull with
			// it: it is not deleted.
			continue
		}
		if want := withAuths(have, namespace, entries, hosts); want != nil {
			changes = append(changes, want)
		}
	}
	return changes
}

// pullNamespaces are the platform's namespaces, besides d8-system, where something
// refers to deckhouse-registry or has a copy of it. Labels of objects do not make
// their namespace the platform's: otherwise a user who may create pods in their
// own namespace would get the registry's credentials.
func pullNamespaces(v *state.View) []string {
	refers := map[string]bool{}
	for _, w := range v.Inventory.Workloads() {
		if excerpt.PullsWith(w.Template.Spec.ImagePullSecrets, v1alpha1.SecretRegistry) {
			refers[w.GetNamespace()] = true
		}
	}
	for _, maker := range v.Inventory.Makers {
		if maker.Kind == "Job" && maker.PullsWithOurs {
			refers[maker.Namespace] = true
		}
	}
	for _, pod := range v.Inventory.Pods {
		if pod.PullsWithOurs {
			refers[pod.Namespace] = true
		}
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

// withAuths is the Secret with these entries, and with no others for the hosts
// given. Entries for other hosts are the user's and stay. Have is the Secret as
// it is, nil when there is none. The result is nil when nothing changes.
func withAuths(have *corev1.Secret, namespace string, auths map[string]dockerAuth, hosts map[string]bool) *corev1.Secret {
	want := cluster.SecretToWrite(have, v1alpha1.SecretRegistry, corev1.SecretTypeDockerConfigJson)
	if have == nil {
		want.Namespace, want.Labels = namespace, cluster.Ours()
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
	// Keys are compared by host, because installers spell them in several ways.
	// An old entry that stayed could be used instead of ours, and would keep a
	// credential that is no longer needed.
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

// pullTargets are the targets with entries in pull secrets, the wanted one first.
func pullTargets(d state.Document) []switchover.Target {
	targets := slices.Clone(d.Desired.PullSecrets)
	if r := d.Desired.Registry; !r.IsZero() && !slices.Contains(targets, r) {
		targets = append(targets, r)
	}
	return targets
}

// auths are the docker config entries of targets, the wanted one first. If all
// targets on a host have the same name, there is one entry, for the host.
// Otherwise each name has an entry, which is the longest key and so the one that
// is used, and the host has the entry of the wanted target.
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
		for _, key := range upstream.KeysOf(name.Host) {
			add(key, newAuth(d.Credentials(t)))
		}
		if names[name.Host] == 1 && name.Path != "" {
			delete(auths, name.String())
		}
	}
	return auths
}

// knownHosts are the hosts whose entries in pull secrets are ours.
func knownHosts(d state.Document) map[string]bool {
	hosts := map[string]bool{layout.Fixed().Host: true}
	add := func(host string) {
		for _, name := range upstream.NamesOf(host) {
			hosts[name] = true
		}
	}
	for _, name := range d.KnownNames() {
		add(name.Host)
	}
	for _, t := range pullTargets(d) {
		add(t.Name().Host)
		add(t.Upstream.Host)
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
