package excerpt

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"unique"

	"github.com/google/uuid"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/shelf"
)

// held is what is kept of an object of which a large cluster has a hundred thousand:
// little for itself, the rest once for all that are alike. It is never changed.
type held struct {
	gettersOnly
	*Alike
	Name    string
	uid     uuid.UUID // zero if rare has it
	version uint64    // of the resource; zero if rare has it
	rare    *rare     // nil of most
}

// rare is what only few objects have to be held of.
type rare struct {
	uid         types.UID // that is no UUID in the usual form
	version     string    // that is no number
	deleted     *metav1.Time
	annotations map[string]string // those that a pass looks at
	waits       []waitingContainer
}

// gettersOnly hides fields of the ObjectMeta that is shared: who reads one of them of one
// object calls the getter.
type gettersOnly struct{ UID, ResourceVersion, DeletionTimestamp, Annotations struct{} }

// Alike is what objects of one template have in common.
type Alike struct {
	// ObjectMeta is namespace, labels and the controller among the owners. It may belong
	// to more objects than these: all ReplicaSets of one Deployment have it.
	*metav1.ObjectMeta
	// Images are all image references, each once.
	Images []string
	// PullsWithOurs: deckhouse-registry is one of the pull secrets.
	PullsWithOurs bool
}

// hold keeps what a pass looks at in any kind of object.
func hold(m *metav1.ObjectMeta, spec *corev1.PodSpec) held {
	h := own(m)
	h.Alike = &Alike{ObjectMeta: &metav1.ObjectMeta{}, Images: slices.Clone(Images(spec)), PullsWithOurs: PullsWith(spec.ImagePullSecrets, v1alpha1.SecretRegistry)}
	h.Namespace = same(m.Namespace)
	if owner := metav1.GetControllerOfNoCopy(m); owner != nil {
		h.OwnerReferences = []metav1.OwnerReference{{Kind: same(owner.Kind), Name: same(owner.Name), UID: same(owner.UID), Controller: owner.Controller}}
	}
	return h
}

// own is what is kept of one object and not of those that are alike.
func own(m *metav1.ObjectMeta) held {
	h := held{Name: m.Name}
	some := rare{deleted: m.DeletionTimestamp}
	if id, err := uuid.Parse(string(m.UID)); err == nil && id != uuid.Nil && id.String() == string(m.UID) {
		h.uid = id
	} else {
		some.uid = m.UID
	}
	if n, err := strconv.ParseUint(m.ResourceVersion, 10, 64); err == nil && n > 0 && strconv.FormatUint(n, 10) == m.ResourceVersion {
		h.version = n
	} else {
		some.version = m.ResourceVersion
	}
	if IsIgnored(m) {
		some.annotations = map[string]string{v1alpha1.AnnotationIgnore: "true"}
	}
	h.hold(some)
	return h
}

// hold keeps what is rare, if any of it is there.
func (h *held) hold(some rare) {
	h.rare = nil
	if some.uid != "" || some.version != "" || some.deleted != nil || len(some.annotations)+len(some.waits) > 0 {
		h.rare = &some
	}
}

// few is what is rare of it.
func (h *held) few() rare {
	if h.rare == nil {
		return rare{}
	}
	return *h.rare
}

// same is the one copy of a word that many objects have: the name of a node or an owner.
func same[T ~string](word T) T { return unique.Make(word).Value() }

// sameWords are labels in the one copy that there is of each of their words.
func sameWords(labels map[string]string) map[string]string {
	if labels == nil {
		return nil
	}
	to := make(map[string]string, len(labels))
	for key, value := range labels {
		to[same(key)] = same(value)
	}
	return to
}

// share replaces what is alike by what others hold already.
func (h *held) share(with *shelf.Shelf[Alike]) { h.Alike = with.Keep(h.id(), h.Alike) }

// shareMeta is share of an object that has images of its own.
func (h *held) shareMeta(with *shelf.Shelf[metav1.ObjectMeta]) {
	h.ObjectMeta = with.Keep(idOf(h.ObjectMeta, nil, false), h.ObjectMeta)
}

func (a *Alike) id() shelf.ID { return idOf(a.ObjectMeta, a.Images, a.PullsWithOurs) }

func idOf(a *metav1.ObjectMeta, images []string, pullsWithOurs bool) shelf.ID {
	var b bytes.Buffer
	word := func(s string) { fmt.Fprintf(&b, "%d:%s", len(s), s) }
	word(a.Namespace)
	for _, key := range slices.Sorted(maps.Keys(a.Labels)) {
		word(key)
		word(a.Labels[key])
	}
	fmt.Fprint(&b, "owners", len(a.OwnerReferences), pullsWithOurs)
	for i := range a.OwnerReferences {
		word(string(a.OwnerReferences[i].UID))
	}
	for _, image := range images {
		word(image)
	}
	return sha256.Sum256(b.Bytes())
}

// What follows makes a client.Object of it; the rest of that is Alike's.

func (h *held) GetName() string                    { return h.Name }
func (h *held) GetDeletionTimestamp() *metav1.Time { return h.few().deleted }
func (h *held) GetAnnotations() map[string]string  { return h.few().annotations }

func (h *held) GetUID() types.UID {
	if h.uid == uuid.Nil {
		return h.few().uid
	}
	return types.UID(h.uid.String())
}

func (h *held) GetResourceVersion() string {
	if h.version == 0 {
		return h.few().version
	}
	return strconv.FormatUint(h.version, 10)
}

func (h *held) GetObjectMeta() metav1.Object     { return h }
func (h *held) GetObjectKind() schema.ObjectKind { return schema.EmptyObjectKind }
