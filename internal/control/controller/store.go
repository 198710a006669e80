package controller

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/control/switchover"
	"github.com/d8-registry/registry/internal/datapath/regauth"
	"github.com/d8-registry/registry/internal/pki"
	"github.com/d8-registry/registry/internal/upstream"
)

// Keys of Secret registry-state, as users read them.
const (
	keyConditions = "conditions"
	keyHash       = "hash"
	keyMode       = "mode"
	keyTargetMode = "target_mode"
	keyState      = "state"

	typeState = "registry/state"
)

// errLost says that somebody else wrote first. The pass ends; the next one
// sees what they wrote.
var errLost = errors.New("somebody else wrote first")

// document is all that the controller remembers: key state of Secret
// registry-state.
type document struct {
	switchover.State
	PKI certificates `json:"pki,omitzero"`
	// Users are those of the in-cluster proxy.
	Users []user `json:"users,omitempty"`
	// Switch is the generation at which the platform began to move to the
	// present target. It numbers switches: a workload is re-pointed once in
	// each.
	Switch int64 `json:"switch,omitempty"`
	// HashKey keys the hash that users see: who knows the rest of a wish must
	// not be able to guess a short password from it.
	HashKey string `json:"hashKey,omitempty"`

	// raw is what was read, with the fields that this version does not know.
	raw map[string]any
}

type certificates struct {
	CA   pki.KeyPair `json:"ca,omitzero"`
	Leaf pki.KeyPair `json:"leaf,omitzero"`
}

type user struct {
	upstream.Credentials `json:",inline"`
	Role                 regauth.Role `json:"role"`
}

// stored is the document together with the Secret that it came from.
type stored struct {
	document
	// secret is nil when there is none.
	secret *corev1.Secret
	// problem says why its content could not be read; the document is then
	// empty and is rebuilt from what is published.
	problem string
}

// load reads the state from the API server itself: a cache could be behind our
// own last write, and everything follows from what is stored.
func (r *Reconciler) load(ctx context.Context) (stored, error) {
	var secret corev1.Secret
	err := r.live.Get(ctx, client.ObjectKey{Namespace: v1alpha1.Namespace, Name: v1alpha1.SecretState}, &secret)
	if apierrors.IsNotFound(err) {
		return stored{}, nil
	}
	if err != nil {
		return stored{}, fmt.Errorf("read state: %w", err)
	}
	doc, err := decode(secret.Data[keyState])
	if err != nil {
		return stored{secret: &secret, problem: err.Error()}, nil //nolint:nilerr // told in the log; a state that cannot be read is one that was lost
	}
	return stored{document: doc, secret: &secret}, nil
}

// save stores the document if it changed, and reports whether it did. It is
// one write that fails if anybody wrote since load: a former leader's late
// pass ends here.
func (r *Reconciler) save(ctx context.Context, before stored, doc document, world switchover.Observed) (bool, error) {
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: v1alpha1.Namespace, Name: v1alpha1.SecretState}, Type: typeState}
	if before.secret != nil {
		secret = before.secret.DeepCopy()
	}
	if err := fill(secret, doc, world); err != nil {
		return false, err
	}
	var err error
	switch {
	case before.secret == nil:
		err = r.client.Create(ctx, secret)
	case maps.EqualFunc(before.secret.Data, secret.Data, func(a, b []byte) bool { return string(a) == string(b) }) &&
		maps.Equal(before.secret.Labels, secret.Labels) && maps.Equal(before.secret.Annotations, secret.Annotations):
		return false, nil
	default:
		err = r.client.Update(ctx, secret)
	}
	if apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err) || apierrors.IsNotFound(err) {
		return false, fmt.Errorf("store state: %w", errLost)
	}
	if err != nil {
		return false, fmt.Errorf("store state: %w", err)
	}
	return true, nil
}

// fill writes the user's view and the document into the Secret.
func fill(secret *corev1.Secret, doc document, world switchover.Observed) error {
	state, err := doc.encode()
	if err != nil {
		return err
	}
	conditions, err := userConditions(doc.Conditions)
	if err != nil {
		return err
	}
	hash := wishHash(doc, world)
	if secret.Data == nil {
		secret.Data = map[string][]byte{}
	}
	secret.Data[keyState] = state
	secret.Data[keyConditions] = conditions
	secret.Data[keyHash] = []byte(hash)
	secret.Data[keyMode] = []byte(doc.Active.Mode)
	secret.Data[keyTargetMode] = []byte(doc.Target.Mode)
	setLabels(secret, map[string]string{
		v1alpha1.LabelManagedBy: v1alpha1.ManagedBy,
		v1alpha1.LabelHeritage:  v1alpha1.Heritage,
		"module":                "registry",
		"app":                   "registry",
		"type":                  "registry-state",
	})
	setAnnotation(secret, v1alpha1.AnnotationConfigHash, hash)
	return nil
}

// wishHash is of what the user asks for and of the images that this needs, so
// that it stands still while nodes report.
func wishHash(doc document, world switchover.Observed) string {
	sum := hmac.New(sha256.New, []byte(doc.HashKey))
	sum.Write([]byte(string(doc.Target.Mode) + "\n" + doc.SpecHash + "\n" + strings.Join(world.Census.Required, "\n")))
	return hex.EncodeToString(sum.Sum(nil))
}

// userConditions are the conditions as a YAML list whose entries have all five
// keys, empty or not.
func userConditions(conditions []metav1.Condition) ([]byte, error) {
	type condition struct {
		LastTransitionTime metav1.Time            `json:"lastTransitionTime"`
		Message            string                 `json:"message"`
		Reason             string                 `json:"reason"`
		Status             metav1.ConditionStatus `json:"status"`
		Type               string                 `json:"type"`
	}
	shown := make([]condition, 0, len(conditions))
	for _, c := range conditions {
		shown = append(shown, condition{c.LastTransitionTime, c.Message, c.Reason, c.Status, c.Type})
	}
	data, err := yaml.Marshal(shown)
	if err != nil {
		return nil, fmt.Errorf("encode conditions: %w", err)
	}
	return data, nil
}

func decode(data []byte) (document, error) {
	var doc document
	if len(data) == 0 {
		return document{}, errors.New("key state is empty")
	}
	// The error of a decoder quotes what it read; the state holds keys and
	// credentials.
	if yaml.Unmarshal(data, &doc) != nil || yaml.Unmarshal(data, &doc.raw) != nil {
		return document{}, errors.New("key state is no state document")
	}
	if doc.Schema < 1 {
		return document{}, errors.New("key state names no schema")
	}
	return doc, nil
}

// encode keeps the fields of a newer version that this one does not know: it
// may come back.
func (d document) encode() ([]byte, error) {
	data, err := json.Marshal(d)
	if err != nil {
		return nil, fmt.Errorf("encode state: %w", err)
	}
	var known map[string]any
	if err := json.Unmarshal(data, &known); err != nil {
		return nil, fmt.Errorf("encode state: %w", err)
	}
	keepUnknown(d.raw, known, reflect.TypeFor[document]())
	out, err := yaml.Marshal(known)
	if err != nil {
		return nil, fmt.Errorf("encode state: %w", err)
	}
	return out, nil
}

// keepUnknown copies from old to fresh what no field of the type stands for,
// in nested structs too.
func keepUnknown(old, fresh map[string]any, t reflect.Type) {
	fields := map[string]reflect.Type{}
	for _, f := range reflect.VisibleFields(t) {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if f.IsExported() && !f.Anonymous && name != "" {
			fields[name] = f.Type
		}
	}
	for key, value := range old {
		field, known := fields[key]
		if !known {
			fresh[key] = value
			continue
		}
		oldMap, okOld := value.(map[string]any)
		freshMap, okFresh := fresh[key].(map[string]any)
		if field.Kind() == reflect.Struct && okOld && okFresh && tagged(field) {
			keepUnknown(oldMap, freshMap, field)
		}
	}
}

// tagged reports whether the type's fields can be told by their tags; types
// that encode themselves are left alone.
func tagged(t reflect.Type) bool {
	return t.NumField() > 0 && t.Field(0).Tag.Get("json") != "" && !t.Implements(reflect.TypeFor[json.Marshaler]())
}
