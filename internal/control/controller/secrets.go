package controller

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/control/switchover"
	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/upstream"
)

// applyPullSecrets writes the image pull secrets that platform workloads use:
// in their namespaces before their templates change. A namespace that refuses
// its copy holds back its own workloads and nobody else.
func (r *Reconciler) applyPullSecrets(ctx context.Context, s *sight, doc document) error {
	s.held = map[string]error{}
	for _, secret := range r.pullSecretChanges(s, doc) {
		err := r.put(ctx, secret)
		if err != nil {
			err = fmt.Errorf("write pull secret %s: %w", key(secret), err)
		}
		switch {
		case secret.Namespace != v1alpha1.Namespace:
			if err != nil {
				s.held[secret.Namespace] = err
			}
		case err != nil:
			return err
		default:
			s.registrySecret = secret // what follows writes it again
		}
	}
	return nil
}

// withheld are the errors of the namespaces that hold back their workloads.
func (s *sight) withheld() error {
	errs := make([]error, 0, len(s.held))
	for _, namespace := range slices.Sorted(maps.Keys(s.held)) {
		errs = append(errs, s.held[namespace])
	}
	return errors.Join(errs...)
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
// should be: deckhouse-registry itself unless it is the user's, and its copy in
// each namespace in which something of the platform refers to it.
func (r *Reconciler) pullSecretChanges(s *sight, doc document) []*corev1.Secret {
	if len(doc.Desired.PullSecrets) == 0 {
		return nil
	}
	auths, hosts := doc.auths(doc.pullTargets()), doc.knownHosts()
	var changes []*corev1.Secret
	if !doc.Desired.Registry.IsZero() {
		if want := withAuths(s.registrySecret, v1alpha1.Namespace, auths, hosts); want != nil {
			changes = append(changes, want)
		}
	}
	for _, namespace := range r.pullNamespaces(s) {
		have := s.secrets[client.ObjectKey{Namespace: namespace, Name: v1alpha1.SecretRegistry}]
		if have != nil && have.Type != corev1.SecretTypeDockerConfigJson {
			// The type of a Secret cannot be changed, and deleting one that
			// pods pull with is worse than leaving it.
			continue
		}
		if want := withAuths(have, namespace, auths, hosts); want != nil {
			changes = append(changes, want)
		}
	}
	return changes
}

// pullNamespaces are the platform's namespaces besides d8-system in which
// something refers to deckhouse-registry or a copy was left. Labels of the
// objects in a namespace do not make it the platform's: whoever may make pods
// in his own namespace is not to be handed the registry's credentials.
func (r *Reconciler) pullNamespaces(s *sight) []string {
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
	for id, secret := range s.secrets {
		if id.Name == v1alpha1.SecretRegistry && secret.Annotations[v1alpha1.AnnotationHosts] != "" {
			refers[id.Namespace] = true
		}
	}
	maps.DeleteFunc(refers, func(namespace string, _ bool) bool {
		return namespace == v1alpha1.Namespace || s.inv.ending[namespace] || !r.isPlatforms(s.inv, namespace)
	})
	return slices.Sorted(maps.Keys(refers))
}

// isPlatforms reports whether a namespace is the platform's, by its labels or
// by a name that is reserved for it.
func (r *Reconciler) isPlatforms(inv *inventory, namespace string) bool {
	return r.selector.Matches(inv.namespaces[namespace]) || strings.HasPrefix(namespace, "d8-") || strings.HasPrefix(namespace, "kube-")
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
		entries[host] = mustJSON(auth)
	}
	config["auths"] = mustJSON(entries)
	if want.Data == nil {
		want.Data = map[string][]byte{}
	}
	want.Data[corev1.DockerConfigJsonKey] = mustJSON(config)
	setAnnotation(want, v1alpha1.AnnotationHosts, strings.Join(slices.Sorted(maps.Keys(auths)), ","))
	if have != nil && sameJSON(have.Data[corev1.DockerConfigJsonKey], want.Data[corev1.DockerConfigJsonKey]) && maps.Equal(have.Annotations, want.Annotations) {
		return nil
	}
	return want
}

// auths are the docker config entries of targets, the wanted one first. A host
// has one entry if all its targets go by one name. Otherwise each name has its
// own beside that of the host, so that the longest key is the right one for
// each, and the host's is the wanted target's.
func (d document) auths(targets []switchover.Target) map[string]dockerAuth {
	auths, names := map[string]dockerAuth{}, map[string]int{}
	add := func(key string, auth dockerAuth) bool {
		_, taken := auths[key]
		if !taken {
			auths[key] = auth
		}
		return !taken
	}
	for _, t := range targets {
		if add(t.Name().String(), newAuth(d.credentials(t))) {
			names[t.Name().Host]++
		}
	}
	for _, t := range targets {
		name := t.Name()
		add(name.Host, newAuth(d.credentials(t)))
		if names[name.Host] == 1 && name.Path != "" {
			delete(auths, name.String())
		}
	}
	return auths
}

// credentials are what clients of a target show. The fixed address has users
// of its own; the upstream's credentials are nobody's business but ours.
func (d document) credentials(t switchover.Target) upstream.Credentials {
	if !t.HasFixedAddress() {
		return t.Upstream.Credentials
	}
	client, _ := d.user(userClient)
	return client.Credentials
}

// knownHosts are the hosts whose entries in pull secrets are ours to say.
func (d document) knownHosts() map[string]bool {
	hosts := map[string]bool{layout.Fixed().Host: true}
	for _, name := range d.KnownNames() {
		hosts[name.Host] = true
	}
	for _, t := range d.pullTargets() {
		hosts[t.Name().Host], hosts[t.Upstream.Host] = true, true
	}
	return hosts
}

// registryChange is Secret deckhouse-registry as it should be; nil when it is
// so or is the user's.
func registryChange(s *sight, doc document) *corev1.Secret {
	target := doc.Desired.Registry
	if target.IsZero() {
		return nil
	}
	want := withAuths(s.registrySecret, v1alpha1.Namespace, doc.auths(doc.pullTargets()), doc.knownHosts())
	changed := want != nil
	if want == nil {
		want = s.registrySecret.DeepCopy()
	}
	name := target.Name()
	u := target.Upstream
	if target.HasFixedAddress() {
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
	if want == nil || namesTooEarly(s, doc) {
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

// namesTooEarly reports whether deckhouse-registry would for the first time name
// the target while not every node knows its name.
func namesTooEarly(s *sight, doc document) bool {
	have := s.registrySecret
	return !doc.Desired.Repoint && doc.Desired.Registry == doc.Target && doc.Desired.Workloads == doc.Target.Name() &&
		have != nil && have.Annotations[v1alpha1.AnnotationRegistryChecksum] != checksum(doc)
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
