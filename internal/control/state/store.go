package state

import (
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/control/cluster"
	"github.com/d8-registry/registry/internal/control/switchover"
)

// Keys of Secret registry-state, as users read them.
const (
	KeyConditions = "conditions"
	KeyHash       = "hash"
	KeyMode       = "mode"
	KeyTargetMode = "target_mode"
	KeyState      = "state"

	typeState = "registry/state"
)

// Stored is the document together with the Secret that it came from.
type Stored struct {
	Document
	// Secret is nil when there is none.
	Secret *corev1.Secret
	// Problem says why its content could not be read; the document is then
	// empty and is rebuilt from what is published.
	Problem string
}

// Store keeps the document in Secret registry-state, with the identity that belongs
// to it, and publishes the layout that it holds.
type Store struct {
	cluster   *cluster.Client
	domain    string
	rotations Rotations
	written   time.Time            // when this process last wrote
	ends      time.Time            // since when this process has seen that the CA ends
	looked    map[string]time.Time // see passed
	cut       string               // see Cut
	refused   int                  // the smallest size that the API server refused; 0: none
}

// NewStore makes a store in this cluster. Domain is the cluster's DNS domain: it
// completes the second name on the proxy's certificate.
func NewStore(c *cluster.Client, domain string, rotations Rotations) *Store {
	return &Store{cluster: c, domain: domain, rotations: rotations, looked: map[string]time.Time{}}
}

// Load reads the state from the API server itself: a cache could be behind our
// own last write, and everything follows from what is stored.
func (s *Store) Load(ctx context.Context) (Stored, error) {
	secret, err := cluster.Get[corev1.Secret](ctx, s.cluster.Live, cluster.Here(v1alpha1.SecretState))
	if err != nil || secret == nil {
		return Stored{}, err
	}
	doc, err := Decode(secret.Data[KeyState])
	if err != nil {
		return Stored{Secret: secret, Problem: err.Error()}, nil //nolint:nilerr // told in the log; a state that cannot be read is one that was lost
	}
	if doc.Newer() {
		// Only these are written; see fill. Its own may mean something else.
		_ = yaml.Unmarshal(secret.Data[KeyConditions], &doc.Conditions) // what cannot be read is written anew
	}
	return Stored{Document: doc, Secret: secret}, nil
}

// Save stores the document if it changed. It is one write that fails if anybody
// wrote since Load: a former leader's late pass ends here. What the API server refuses
// for its size is tried again with less text, which is cut in the document too; Cut
// says so. The error is ErrTooLarge if that was not enough. A size that was refused is not
// sent again with each pass; only what has no text left always is, for a limit can be
// raised.
func (s *Store) Save(ctx context.Context, before Stored, doc *Document, o switchover.Observed) error {
	conditions, refused := doc.Conditions, 0
	for _, most := range []int{switchover.MostTexts, 1 << 10, 128, 0} {
		doc.Conditions = shortened(conditions, most)
		secret := cluster.SecretToWrite(before.Secret, v1alpha1.SecretState, typeState)
		if err := fill(secret, *doc, o); err != nil {
			return err
		}
		same := isAsBefore(before.Secret, secret)
		var err error
		size := sizeOf(secret)
		known := !same && most > 0 && s.refused > 0 && size >= s.refused
		if !same && !known {
			err = s.cluster.Put(ctx, secret)
		}
		switch {
		case known:
			refused = max(refused, size)
			continue
		case refusedForSize(err):
			refused = max(refused, size)
			s.refused = min(size, cmp.Or(s.refused, size))
			continue
		case err != nil:
			return fmt.Errorf("store state: %w", err)
		case !same:
			s.written, s.cut = o.Now, ""
			if size >= s.refused {
				s.refused = 0
			}
		}
		if refused > 0 {
			s.cut = cutMessage(refused, most)
		}
		return nil
	}
	return fmt.Errorf("store Secret %s of %s: %w", v1alpha1.SecretState, mebibytes(refused), ErrTooLarge)
}

func isAsBefore(have, want *corev1.Secret) bool {
	return have != nil && cluster.SameData(have.Data, want.Data) &&
		maps.Equal(have.Labels, want.Labels) && maps.Equal(have.Annotations, want.Annotations)
}

// Cut says, for users, that texts were cut because the state is too large; empty when
// they were not.
func (s *Store) Cut() string { return s.cut }

// fill writes the user's view and the document into the Secret. Of a document that a
// newer version wrote it writes the conditions only: the rest would not come back whole.
func fill(secret *corev1.Secret, doc Document, o switchover.Observed) error {
	state, err := doc.Encode()
	if err != nil {
		return err
	}
	// A YAML list, also of none. Entries have all five keys, empty or not.
	conditions, err := yaml.Marshal(append([]metav1.Condition{}, doc.Conditions...))
	if err != nil {
		return fmt.Errorf("encode conditions: %w", err)
	}
	hash := specHash(doc, o)
	if secret.Data == nil {
		secret.Data = map[string][]byte{}
	}
	secret.Data[KeyConditions] = conditions
	if doc.Newer() {
		return nil
	}
	secret.Data[KeyState] = state
	secret.Data[KeyHash] = []byte(hash)
	secret.Data[KeyMode] = []byte(doc.Active.Mode)
	secret.Data[KeyTargetMode] = []byte(doc.Target.Mode)
	cluster.SetLabels(secret, cluster.Ours())
	cluster.SetLabels(secret, map[string]string{v1alpha1.LabelApp: "registry", "type": "registry-state"})
	cluster.SetAnnotation(secret, v1alpha1.AnnotationConfigHash, hash)
	return nil
}

// specHash is of what the user asks for and of the images that this needs, so
// that it stands still while nodes report.
func specHash(doc Document, o switchover.Observed) string {
	sum := hmac.New(sha256.New, []byte(doc.HashKey))
	sum.Write([]byte(string(doc.Target.Mode) + "\n" + doc.SpecHash + "\n" + strings.Join(o.Census.Required, "\n")))
	return hex.EncodeToString(sum.Sum(nil))
}
