package stores

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/control/cluster"
	"github.com/d8-registry/registry/internal/control/switchover"
)

// secretType is that of what stores serve by.
const secretType corev1.SecretType = "registry.deckhouse.io/store"

// Keeper makes it so.
type Keeper struct {
	cluster  *cluster.Client
	problems map[string]error // of the last Apply
	uses     map[types.UID]use
	told     told
}

// use is when a store says that it was used last, and when we first saw that. Only the second
// is compared with our clock: those of nodes may be wrong.
type use struct {
	told string
	at   time.Time
}

// New makes a Keeper.
func New(c *cluster.Client) *Keeper { return &Keeper{cluster: c} }

// Seen is Wish.Seen, with the problems that the last Apply met, and with who used the stores.
func (k *Keeper) Seen(there *cluster.Snapshot, w Wish, now time.Time) switchover.Stores {
	s := w.Seen(there, k.problems)
	still := map[types.UID]use{}
	for node, r := range reports(there) {
		if r.LastUse == "" {
			continue
		}
		u := use{r.LastUse, now}
		if seen := k.uses[node.UID]; seen.told == r.LastUse {
			u = seen
		}
		if still[node.UID] = u; u.at.After(s.LastUse) {
			s.LastUse = u.at
			s.Clients = strings.FieldsFunc(r.LastClients, func(c rune) bool { return c == ',' || c == ' ' })
		}
	}
	k.uses = still
	return s
}

// Apply writes what a Wish asks for. First the right to read what they serve by, then that,
// then the nodes, with their DaemonSets; when no store is left, the other way. A node that
// cannot be written concerns itself alone: it is in refused.
func (k *Keeper) Apply(ctx context.Context, there *cluster.Snapshot, w Wish, now time.Time) (refused map[string]error, err error) {
	var specs map[string]*v1alpha1.StoreSpec
	specs, k.problems = w.Specs(there, now)
	if len(specs) > 0 {
		data, err := w.content(there, specs)
		if err == nil && there.OwnSecret(v1alpha1.SecretStore) == nil {
			err = k.grant(ctx, true)
		}
		if err == nil {
			err = k.cluster.PutData(ctx, there, v1alpha1.SecretStore, secretType, data)
		}
		if err != nil {
			return nil, err
		}
	}
	refused = k.run(ctx, there, w, specs)
	sets := daemonSetsIn(there)
	for _, name := range slices.Sorted(maps.Keys(there.RegistryNodes)) {
		have, want := there.RegistryNodes[name], specs[name]
		if want == nil && sets.byNode[name] != nil {
			want = have.Spec.Store // its process ends before its files go
		}
		if err := k.ask(ctx, have, want); err != nil {
			refused[name] = errors.Join(refused[name], fmt.Errorf("ask node %s for a store: %w", name, err))
		}
	}
	if reached, _ := w.left(there); w.None && len(reached) == 0 {
		return refused, k.end(ctx, there)
	}
	return refused, nil
}

// ask writes spec.store of one node, if it is another.
func (k *Keeper) ask(ctx context.Context, have *v1alpha1.RegistryNode, store *v1alpha1.StoreSpec) error {
	if equality.Semantic.DeepEqual(have.Spec.Store, store) {
		return nil
	}
	want := have.DeepCopy()
	want.Spec.Store = store
	err := k.cluster.Patch(ctx, want, client.MergeFrom(have), cluster.Owner)
	if apierrors.IsNotFound(err) {
		return nil // the cache is behind
	}
	return err //nolint:wrapcheck // the caller names the node
}

// end takes away what stores served by, and the right to read it.
func (k *Keeper) end(ctx context.Context, there *cluster.Snapshot) error {
	secret := there.OwnSecret(v1alpha1.SecretStore)
	if secret == nil {
		return nil
	}
	if err := k.grant(ctx, false); err != nil {
		return err
	}
	if _, err := k.cluster.DeleteSeen(ctx, secret); err != nil {
		return fmt.Errorf("delete secret %s: %w", secret.Name, err)
	}
	return nil
}

// grant lets the agents read the Secret, or nobody: the Role is there, and who has it is said
// in its binding alone. It is written before the Secret comes and before it goes.
func (k *Keeper) grant(ctx context.Context, may bool) error {
	binding := &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Namespace: v1alpha1.Namespace, Name: v1alpha1.RoleStore},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: v1alpha1.RoleStore},
	}
	if may {
		binding.Subjects = []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: v1alpha1.Namespace, Name: v1alpha1.DaemonSetAgent}}
	}
	return k.cluster.ApplyOwn(ctx, binding, rbacv1.SchemeGroupVersion.WithKind("RoleBinding"))
}
