package nodescript

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"log/slog"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
)

// reasonFailed is the reason of Events about a script that failed, as the
// platform's users know it.
const reasonFailed = "BashibleStepFailed"

const (
	// failuresOneByOne is how many failures in a row are reported at once. After
	// them the Event is updated only every eventInterval.
	failuresOneByOne = 3
	eventInterval    = 5 * time.Minute
	// eventTimeout is how long an Event may delay the next try.
	eventTimeout = 5 * time.Second
)

// events reports on the Node which script failed, with one Event for each script,
// which has a count. It is used by one goroutine.
type events struct {
	client dynamic.Interface
	node   string
	log    *slog.Logger
	sent   map[string]*sentEvent // by script
}

// sentEvent is an Event that was made.
type sentEvent struct {
	name     string // empty: none yet
	first    metav1.Time
	count    int32
	lastSent time.Time
}

func newEvents(client dynamic.Interface, node string, log *slog.Logger) *events {
	return &events{client: client, node: node, log: log, sent: map[string]*sentEvent{}}
}

func (e *events) succeeded(s script) { delete(e.sent, s.name) }

// failed reports a failure. If the API server does not take it, it is lost:
// nothing depends on it.
func (e *events) failed(ctx context.Context, node Node, s script, o outcome) {
	t := e.sent[s.name]
	if t == nil {
		t = &sentEvent{first: metav1.Now()}
		e.sent[s.name] = t
	}
	t.count++
	if t.count > failuresOneByOne && time.Since(t.lastSent) < eventInterval {
		return
	}
	t.lastSent = time.Now()
	ctx, cancel := context.WithTimeout(ctx, eventTimeout)
	defer cancel()
	if err := e.send(ctx, node, s, o, t); err != nil {
		e.log.Warn("an Event about a script is lost", "script", s.name, "err", err)
	}
}

// send updates the Event, or makes one if there is none: the API server keeps
// Events for about an hour.
func (e *events) send(ctx context.Context, node Node, s script, o outcome, t *sentEvent) error {
	resource := e.client.Resource(corev1.SchemeGroupVersion.WithResource("events")).Namespace(metav1.NamespaceDefault)
	now, note := metav1.Now(), noteOf(s, o)
	if t.name != "" {
		change, err := json.Marshal(map[string]any{"count": t.count, "lastTimestamp": now, "message": note})
		if err != nil {
			return fmt.Errorf("encode Event: %w", err)
		}
		_, err = resource.Patch(ctx, t.name, types.MergePatchType, change, metav1.PatchOptions{FieldManager: fieldManager})
		if !apierrors.IsNotFound(err) {
			return err //nolint:wrapcheck // said by the caller
		}
	}
	sum := sha256.Sum256([]byte(s.name))
	// The time is in the name, because an earlier Event may still be there.
	name := fmt.Sprintf("%s.%x.%x", e.node, sum[:4], now.UnixNano())
	event := &corev1.Event{
		TypeMeta:       metav1.TypeMeta{APIVersion: "v1", Kind: "Event"},
		ObjectMeta:     metav1.ObjectMeta{Namespace: metav1.NamespaceDefault, Name: name},
		InvolvedObject: corev1.ObjectReference{APIVersion: "v1", Kind: "Node", Name: e.node, UID: types.UID(node.UID)},
		Related:        &corev1.ObjectReference{APIVersion: "deckhouse.io/v1alpha1", Kind: "NodeGroupConfiguration", Name: s.name},
		Reason:         reasonFailed, Message: note, Type: corev1.EventTypeWarning,
		Source:         corev1.EventSource{Component: fieldManager, Host: e.node},
		FirstTimestamp: t.first, LastTimestamp: now, Count: t.count,
	}
	body, err := runtime.DefaultUnstructuredConverter.ToUnstructured(event)
	if err != nil {
		return fmt.Errorf("encode Event: %w", err)
	}
	if _, err := resource.Create(ctx, &unstructured.Unstructured{Object: body}, metav1.CreateOptions{FieldManager: fieldManager}); err != nil {
		return err //nolint:wrapcheck // said by the caller
	}
	t.name = name
	return nil
}

const fieldManager = "registry-agent"

// noteOf names the script and ends with the end of its standard error.
func noteOf(s script, o outcome) string {
	note := "NodeGroupConfiguration " + s.name + ": " + o.failure
	if o.stderr == "" {
		return note + "; nothing on standard error"
	}
	return note + "\n" + o.stderr
}
