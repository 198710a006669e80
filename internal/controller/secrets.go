package controller

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/switchover"
	"github.com/d8-registry/registry/internal/upstream"
)

// annotationHosts lists the entries of a pull secret that are ours; others are
// the user's and stay.
const annotationHosts = "registry.deckhouse.io/hosts"

// applyPullSecrets writes the image pull secrets that platform workloads use:
// in their namespaces before their templates change.
func (r *Reconciler) applyPullSecrets(ctx context.Context, s *sight, doc document) error {
	for _, secret := range r.pullSecretChanges(s, doc) {
		if err := r.put(ctx, secret); err != nil {
			return fmt.Errorf("write pull secret %s: %w", key(secret), err)
		}
		if secret.Namespace == v1alpha1.Namespace {
			s.registrySecret = secret // what follows writes it again
		}
	}
	return nil
}

// pullTargets are the targets that pull secrets know, the wanted one first.
func (d document) pullTargets() []switchover.Target {
	targets := slices.Clone(d.Desired.PullSecrets)
	if r := d.Desired.Registry; !r.IsZero() && !slices.Contains(targets, r) {
		targets = append(targets, r)
	}
	return targets
}

// pullSecretChanges are the pull secrets that are not as desired, as they
// should be: deckhouse-registry itself, and its copy in each namespace in which
// something refers to it.
func (r *Reconciler) pullSecretChanges(s *sight, doc document) []*corev1.Secret {
	if len(doc.Desired.PullSecrets) == 0 {
		return nil
	}
	auths := doc.auths(doc.pullTargets())
	var changes []*corev1.Secret
	for _, namespace := range s.pullNamespaces() {
		have := s.secrets[client.ObjectKey{Namespace: namespace, Name: v1alpha1.SecretRegistry}]
		if namespace == v1alpha1.Namespace {
			have = s.registrySecret
		}
		if have != nil && have.Type != corev1.SecretTypeDockerConfigJson {
			// The type of a Secret cannot be changed, and deleting one that
			// pods pull with is worse than leaving it.
			if have.Namespace != v1alpha1.Namespace {
				continue
			}
		}
		if want := withAuths(have, namespace, auths); want != nil {
			changes = append(changes, want)
		}
	}
	return changes
}

// pullNamespaces are where something refers to deckhouse-registry, d8-system
// first.
func (s *sight) pullNamespaces() []string {
	refers := map[string]bool{}
	note := func(namespace string, spec *corev1.PodSpec) {
		if slices.ContainsFunc(spec.ImagePullSecrets, func(l corev1.LocalObjectReference) bool { return l.Name == v1alpha1.SecretRegistry }) {
			refers[namespace] = true
		}
	}
	for _, w := range s.inv.workloads(nothing()) {
		note(w.GetNamespace(), &w.template.Spec)
	}
	for i := range s.inv.jobs {
		note(s.inv.jobs[i].Namespace, &s.inv.jobs[i].Spec.Template.Spec)
	}
	for i := range s.inv.pods {
		note(s.inv.pods[i].Namespace, &s.inv.pods[i].Spec)
	}
	delete(refers, v1alpha1.Namespace)
	return append([]string{v1alpha1.Namespace}, slices.Sorted(maps.Keys(refers))...)
}

// withAuths is the Secret with exactly these entries of ours beside the
// user's; nil when it is so already.
func withAuths(have *corev1.Secret, namespace string, auths map[string]dockerAuth) *corev1.Secret {
	want := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: v1alpha1.SecretRegistry},
		Type:       corev1.SecretTypeDockerConfigJson,
	}
	if have != nil {
		want = have.DeepCopy()
	} else {
		setLabels(want, ours())
	}
	var config map[string]json.RawMessage
	if json.Unmarshal(want.Data[corev1.DockerConfigJsonKey], &config) != nil || config == nil {
		config = map[string]json.RawMessage{}
	}
	entries := map[string]json.RawMessage{}
	if json.Unmarshal(config["auths"], &entries) != nil || entries == nil {
		entries = map[string]json.RawMessage{}
	}
	for _, host := range strings.Split(want.Annotations[annotationHosts], ",") {
		delete(entries, host)
	}
	for host, auth := range auths {
		entries[host] = mustJSON(auth)
	}
	config["auths"] = mustJSON(entries)
	if want.Data == nil {
		want.Data = map[string][]byte{}
	}
	want.Data[corev1.DockerConfigJsonKey] = mustJSON(config)
	setAnnotation(want, annotationHosts, strings.Join(slices.Sorted(maps.Keys(auths)), ","))
	if have != nil && sameJSON(have.Data[corev1.DockerConfigJsonKey], want.Data[corev1.DockerConfigJsonKey]) && maps.Equal(have.Annotations, want.Annotations) {
		return nil
	}
	return want
}

// auths are the docker config entries of targets, the first of a host winning.
func (d document) auths(targets []switchover.Target) map[string]dockerAuth {
	auths := map[string]dockerAuth{}
	for _, t := range targets {
		host, credentials := t.Name().Host, t.Upstream.Credentials
		if t.Mode != switchover.Unmanaged {
			// The fixed address has users of its own; the upstream's
			// credentials are nobody's business but ours.
			client, _ := d.user(userClient)
			credentials = client.Credentials
		}
		for _, name := range []string{host, t.Name().String()} {
			if _, taken := auths[name]; !taken {
				auths[name] = newAuth(credentials)
				break
			}
		}
	}
	return auths
}

// registryChange is Secret deckhouse-registry as it should be; nil when it is
// so or is the user's.
func registryChange(s *sight, doc document) *corev1.Secret {
	target := doc.Desired.Registry
	if target.IsZero() {
		return nil
	}
	want := withAuths(s.registrySecret, v1alpha1.Namespace, doc.auths(doc.pullTargets()))
	changed := want != nil
	if want == nil {
		want = s.registrySecret.DeepCopy()
	}
	name := target.Name()
	u := target.Upstream
	if target.Mode != switchover.Unmanaged {
		u = upstream.Upstream{Scheme: upstream.HTTPS, CA: doc.PKI.CA.Cert}
	}
	fields := map[string]string{keyAddress: name.Host, keyPath: "", keyScheme: string(u.Scheme), keyCA: u.CA}
	if name.Path != "" {
		fields[keyPath] = "/" + name.Path
	}
	for field, value := range fields {
		if have, ok := want.Data[field]; !ok || string(have) != value {
			want.Data[field] = []byte(value)
			changed = true
		}
	}
	if !changed {
		return nil
	}
	return want
}

// applyRegistry writes Secret deckhouse-registry, which platform components
// read. That it was changed by somebody else is told by an Event.
func (r *Reconciler) applyRegistry(ctx context.Context, s *sight, doc document) error {
	want := registryChange(s, doc)
	if want == nil {
		return nil
	}
	wrote := checksum(doc)
	if have := s.registrySecret; have != nil && have.Annotations[v1alpha1.AnnotationRegistryChecksum] == wrote && string(have.Data[keyAddress]) != string(want.Data[keyAddress]) {
		r.eventf(want, "RegistrySecretHealed", "somebody changed the Secret while the module keeps it; it names %s again", doc.Desired.Registry.Name())
	}
	setAnnotation(want, v1alpha1.AnnotationRegistryChecksum, wrote)
	if err := r.put(ctx, want); err != nil {
		return fmt.Errorf("write secret %s: %w", want.Name, err)
	}
	return nil
}

// put creates or updates a Secret. An update is conditional on what was seen.
func (r *Reconciler) put(ctx context.Context, secret *corev1.Secret) error {
	var err error
	if secret.ResourceVersion == "" {
		err = r.client.Create(ctx, secret)
	} else {
		err = r.client.Update(ctx, secret)
	}
	if apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err) || apierrors.IsNotFound(err) {
		return errLost
	}
	return err //nolint:wrapcheck // the callers say which Secret
}

func ours() map[string]string {
	return map[string]string{
		v1alpha1.LabelManagedBy: v1alpha1.ManagedBy,
		v1alpha1.LabelHeritage:  v1alpha1.Heritage,
		"module":                "registry",
	}
}

func setLabels(o metav1.Object, labels map[string]string) {
	have := maps.Clone(o.GetLabels())
	if have == nil {
		have = map[string]string{}
	}
	maps.Copy(have, labels)
	o.SetLabels(have)
}

func setAnnotation(o metav1.Object, name, value string) {
	have := maps.Clone(o.GetAnnotations())
	if have == nil {
		have = map[string]string{}
	}
	have[name] = value
	o.SetAnnotations(have)
}

// mustJSON encodes what cannot fail: maps of strings and raw JSON.
func mustJSON(v any) []byte {
	data, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return data
}

func sameJSON(a, b []byte) bool {
	var x, y any
	if json.Unmarshal(a, &x) != nil || json.Unmarshal(b, &y) != nil {
		return false
	}
	return string(mustJSON(x)) == string(mustJSON(y))
}
