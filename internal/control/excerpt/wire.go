package excerpt

import (
	"bytes"
	"errors"
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
)

// ErrNotWire says that an answer is not the list in protobuf that was asked for. Nothing
// of it was shown.
var ErrNotWire = errors.New("the answer is not the list in protobuf")

// Wire reads pages of one list as the API server sends them in protobuf, and decodes of
// each object only what is held of it: a whole Pod is some fifty times more, all of it
// garbage at once. What it makes is what Reduce makes of the whole object.
type Wire struct {
	reducer *Reducer
	list    runtime.TypeMeta
	object  message
	keep    tree
	pods    *podParts // nil if it is of another kind
	answer  runtime.Unknown
	pruned  []byte
}

// message is a type that apimachinery generates a decoder for.
type message interface {
	client.Object
	Reset()
	Unmarshal(data []byte) error
}

// Wire is how a kind is read; nil for a kind that is held as it is.
func (r *Reducer) Wire(kind client.Object) *Wire {
	w := &Wire{reducer: r}
	meta, template := alikeMeta(ownMeta(v1alpha1.AnnotationIgnore)), tree{}.and(imageFields(), 2)
	switch kind.(type) {
	case *corev1.Pod:
		w.list, w.object, w.pods = runtime.TypeMeta{APIVersion: "v1", Kind: "PodList"}, &corev1.Pod{}, newPodParts()
	case *corev1.ReplicationController: // spec.template
		w.list, w.object = runtime.TypeMeta{APIVersion: "v1", Kind: "ReplicationControllerList"}, &corev1.ReplicationController{}
		w.keep = tree{}.and(meta, 1).and(tree{}.and(template, 3), 2)
	case *appsv1.ReplicaSet: // spec.replicas, spec.template, status.replicas
		w.list, w.object = runtime.TypeMeta{APIVersion: "apps/v1", Kind: "ReplicaSetList"}, &appsv1.ReplicaSet{}
		w.keep = tree{}.and(meta, 1).and(all(1).and(template, 3), 2).and(all(1), 3)
	case *appsv1.ControllerRevision: // data
		w.list, w.object = runtime.TypeMeta{APIVersion: "apps/v1", Kind: "ControllerRevisionList"}, &appsv1.ControllerRevision{}
		w.keep = all(2).and(meta, 1)
	case *batchv1.Job: // spec.template, status.conditions {type, status}
		w.list, w.object = runtime.TypeMeta{APIVersion: "batch/v1", Kind: "JobList"}, &batchv1.Job{}
		w.keep = tree{}.and(meta, 1).and(tree{}.and(template, 6), 2).and(tree{}.and(all(1, 2), 1), 3)
	default:
		return nil
	}
	return w
}

// Page shows what is held of each object of an answer, and returns the token of the next
// page. Nothing that it shows points into the answer.
func (w *Wire) Page(answer []byte, show func(held any)) (next string, err error) {
	if !w.open(answer) {
		return "", ErrNotWire
	}
	var meta metav1.ListMeta
	for list := w.answer.Raw; len(list) > 0; {
		number, kind, head := protowire.ConsumeTag(list)
		if head < 0 {
			return "", fmt.Errorf("read a page: %w", protowire.ParseError(head))
		}
		length := protowire.ConsumeFieldValue(number, kind, list[head:])
		if length < 0 {
			return "", fmt.Errorf("read field %d of a page: %w", number, protowire.ParseError(length))
		}
		if number == 1 || number == 2 { // metadata and items of every list
			value, n := protowire.ConsumeBytes(list[head:])
			if kind != protowire.BytesType || n < 0 {
				return "", fmt.Errorf("read a page: field %d is no message", number)
			}
			if number == 1 {
				err = meta.Unmarshal(value)
			} else {
				err = w.item(value, show)
			}
			if err != nil {
				return "", fmt.Errorf("read a page: %w", err)
			}
		}
		list = list[head+length:]
	}
	return meta.Continue, nil
}

// open takes the list out of an answer, and reports whether it is there: four bytes, then a
// runtime.Unknown, as in k8s.io/apimachinery/pkg/runtime/serializer/protobuf.
func (w *Wire) open(answer []byte) bool {
	body, is := bytes.CutPrefix(answer, []byte("k8s\x00"))
	w.answer = runtime.Unknown{Raw: w.answer.Raw[:0]}
	return is && w.answer.Unmarshal(body) == nil && w.answer.TypeMeta == w.list && w.answer.ContentEncoding == "" &&
		(w.answer.ContentType == "" || w.answer.ContentType == runtime.ContentTypeProtobuf)
}

func (w *Wire) item(whole []byte, show func(held any)) error {
	if w.pods != nil {
		pod, err := w.pod(whole)
		if err == nil {
			show(pod)
		}
		return err
	}
	err := w.decode(whole, w.keep)
	if err == nil {
		show(w.reducer.Reduce(w.object))
	}
	return err
}

// decode makes the object be what is kept of one.
func (w *Wire) decode(whole []byte, keep tree) (err error) {
	if w.pruned, err = prune(w.pruned[:0], whole, keep); err != nil {
		return err
	}
	w.object.Reset()
	return w.object.Unmarshal(w.pruned) //nolint:wrapcheck // Page says what was read
}

// podParts are Pods in three parts. Two of them are the same in many, to the byte, and are
// decoded once for those that follow each other: Pods of a template have names alike, and
// the API server lists by name.
type podParts struct {
	own, alike, state tree
	known             map[string]*Pod
}

// mostParts is how many parts are kept to look for the next in.
const mostParts = 1024

func newPodParts() *podParts {
	status := all(1).and(tree{}.and(all(1), 1), 2) // name, state.waiting.reason
	return &podParts{
		own:   tree{}.and(ownMeta(v1alpha1.AnnotationIgnore), 1).and(all(10), 2), // spec.nodeName
		alike: tree{}.and(alikeMeta(all(11)), 1).and(imageFields(), 2),           // metadata.labels
		state: tree{}.and(all(1).and(all(1, 2), 2).and(status, 8, 10), 3),        // phase, conditions {type, status}, containerStatuses, initContainerStatuses
		known: map[string]*Pod{},
	}
}

// pod is what is held of a Pod.
func (w *Wire) pod(whole []byte) (*Pod, error) {
	alike, err := w.part(whole, w.pods.alike)
	if err != nil {
		return nil, err
	}
	if alike.Namespace == v1alpha1.Namespace { // of ours more is held
		pod := &corev1.Pod{}
		if err := pod.Unmarshal(whole); err != nil {
			return nil, err //nolint:wrapcheck // Page says what was read
		}
		held, _ := w.reducer.Reduce(pod).(*Pod)
		return held, nil
	}
	state, err := w.part(whole, w.pods.state)
	if err != nil {
		return nil, err
	}
	if err := w.decode(whole, w.pods.own); err != nil {
		return nil, err
	}
	pod, _ := w.object.(*corev1.Pod)
	held := *state
	held.held, held.Node = own(&pod.ObjectMeta), same(pod.Spec.NodeName)
	held.Alike = alike.Alike
	some := held.few()
	some.waits = state.few().waits
	held.hold(some)
	return &held, nil
}

// part is what is held of a Pod of which only these fields are there.
func (w *Wire) part(whole []byte, keep tree) (part *Pod, err error) {
	if w.pruned, err = prune(w.pruned[:0], whole, keep); err != nil {
		return nil, err
	}
	if part = w.pods.known[string(w.pruned)]; part != nil {
		return part, nil
	}
	w.object.Reset()
	if err := w.object.Unmarshal(w.pruned); err != nil {
		return nil, err //nolint:wrapcheck // Page says what was read
	}
	part, _ = w.reducer.Reduce(w.object).(*Pod)
	if len(w.pods.known) >= mostParts {
		clear(w.pods.known)
	}
	w.pods.known[string(w.pruned)] = part
	return part, nil
}
