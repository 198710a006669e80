package excerpt

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"runtime"
	"slices"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	apiruntime "k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/randfill"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
)

// messages is a list type with its generated decoder.
type messages interface {
	client.ObjectList
	Marshal() ([]byte, error)
	Unmarshal(data []byte) error
}

// wireKinds are the kinds that Wire reads, and an empty list of each.
func wireKinds() map[client.Object]func() messages {
	return map[client.Object]func() messages{
		&corev1.Pod{}:                   func() messages { return &corev1.PodList{} },
		&corev1.ReplicationController{}: func() messages { return &corev1.ReplicationControllerList{} },
		&appsv1.ReplicaSet{}:            func() messages { return &appsv1.ReplicaSetList{} },
		&appsv1.ControllerRevision{}:    func() messages { return &appsv1.ControllerRevisionList{} },
		&batchv1.Job{}:                  func() messages { return &batchv1.JobList{} },
	}
}

// enveloped is a list as the API server sends it.
func enveloped(kind apiruntime.TypeMeta, list []byte) []byte {
	body, _ := (&apiruntime.Unknown{TypeMeta: kind, Raw: list}).Marshal()
	return append([]byte("k8s\x00"), body...)
}

// typed is what Reduce makes of what the generated decoder makes of a list.
func typed(list messages, data []byte) (held []any, next string, err error) {
	if err := list.Unmarshal(data); err != nil {
		return nil, "", err
	}
	var r Reducer
	err = meta.EachListItem(list, func(o apiruntime.Object) error {
		held = append(held, r.Reduce(o))
		return nil
	})
	return held, list.GetContinue(), err
}

// wired is what Wire makes of it.
func wired(kind client.Object, data []byte) (held []any, next string, err error) {
	w := (&Reducer{}).Wire(kind)
	next, err = w.Page(enveloped(w.list, data), func(o any) { held = append(held, o) })
	return held, next, err
}

// compare wants both to be the same. Of damage in what it does not read Wire knows nothing,
// and numbers of more than 64 bits it does not take.
func compare(t *testing.T, kind client.Object, list messages, data []byte, damaged bool) {
	t.Helper()
	want, wantNext, wantErr := typed(list, data)
	got, gotNext, gotErr := wired(kind, data)
	switch {
	case wantErr != nil && gotErr != nil, damaged && (wantErr != nil || gotErr != nil):
	case wantErr != nil || gotErr != nil:
		t.Errorf("%T: typed it is %v, from the wire %v", kind, wantErr, gotErr)
	case gotNext != wantNext:
		t.Errorf("%T: the next page is %q, and not %q", kind, gotNext, wantNext)
	case len(got) != len(want):
		t.Errorf("%T: %d of %d objects", kind, len(got), len(want))
	default:
		for i := range want {
			if !reflect.DeepEqual(got[i], want[i]) {
				t.Fatalf("%T: from the wire it is\n%+v, and typed\n%+v", kind, describe(got[i]), describe(want[i]))
			}
		}
	}
}

func describe(held any) string {
	switch o := held.(type) {
	case *Pod:
		return fmt.Sprintf("%+v of %+v", *o, *o.Alike)
	case *Maker:
		return fmt.Sprintf("%+v of %+v", *o, *o.Alike)
	}
	return fmt.Sprint(held)
}

// pick is one of some words.
func pick[T any](c randfill.Continue, words ...T) T { return words[c.Intn(len(words))] }

// shapes fills objects with anything, and what a pass looks at with what it knows.
func shapes(seed int64) *randfill.Filler {
	return randfill.NewWithSeed(seed).NilChance(0.3).NumElements(0, 3).MaxDepth(12).Funcs(
		func(t *metav1.Time, c randfill.Continue) { *t = metav1.Unix(c.Int63n(1<<32), 0) },
		func(q *resource.Quantity, c randfill.Continue) {
			*q = *resource.NewQuantity(c.Int63n(1000), resource.DecimalSI)
		},
		func(r *apiruntime.RawExtension, c randfill.Continue) {
			r.Raw = []byte(pick(c, "", "{", `{"spec":{"template":{"spec":{"containers":[{"image":"r.io/a:1"},{"image":"r.io/b:1"}]}}}}`))
		},
		func(m *metav1.ObjectMeta, c randfill.Continue) {
			c.FillNoCustom(m)
			m.Namespace = pick(c, "", "ns", v1alpha1.Namespace)
			if c.Bool() {
				m.Annotations = map[string]string{v1alpha1.AnnotationIgnore: pick(c, "true", "false"), "some": v1alpha1.AnnotationIgnore}
			}
		},
		func(p *corev1.PodPhase, c randfill.Continue) {
			*p = pick(c, corev1.PodRunning, corev1.PodSucceeded, corev1.PodFailed, corev1.PodPending, "")
		},
		func(k *corev1.PodConditionType, c randfill.Continue) {
			*k = pick(c, corev1.PodReady, corev1.PodScheduled)
		},
		func(k *batchv1.JobConditionType, c randfill.Continue) {
			*k = pick(c, batchv1.JobComplete, batchv1.JobFailed, "")
		},
		func(s *corev1.ConditionStatus, c randfill.Continue) {
			*s = pick(c, corev1.ConditionTrue, corev1.ConditionFalse)
		},
		func(w *corev1.ContainerStateWaiting, c randfill.Continue) {
			w.Reason, w.Message = pick(c, "ErrImagePull", "PodInitializing", "CrashLoopBackOff", ""), "some"
		},
		func(l *corev1.LocalObjectReference, c randfill.Continue) {
			l.Name = pick(c, v1alpha1.SecretRegistry, "other", "")
		},
		func(n *int32, c randfill.Continue) { *n = pick[int32](c, 0, 0, 1, -1) },
	)
}

// TestWireIsAsTyped: of objects of any shape that is read which the whole objects are
// reduced to; also of parts of a message, and of one to which something is added.
func TestWireIsAsTyped(t *testing.T) {
	t.Parallel()
	for kind, empty := range wireKinds() {
		t.Run(fmt.Sprintf("%T", kind), func(t *testing.T) {
			t.Parallel()
			for seed := range int64(40) {
				list := empty()
				shapes(seed).Fill(list)
				data, err := list.Marshal()
				if err != nil {
					t.Fatal(err)
				}
				compare(t, kind, empty(), data, false)
				// Each once more, with unknown fields, and another one's metadata: that is merged.
				compare(t, kind, empty(), slices.Concat(data, data), false)
				other := protowire.AppendString(protowire.AppendTag(nil, 500, protowire.BytesType), "unknown")
				list.SetContinue("next")
				_ = meta.EachListItem(list, func(o apiruntime.Object) error {
					one, _ := o.(interface{ Marshal() ([]byte, error) }).Marshal()
					twice := slices.Concat(one, other, one)
					data = protowire.AppendBytes(protowire.AppendTag(append(data, other...), 2, protowire.BytesType), twice)
					return nil
				})
				compare(t, kind, empty(), data, false)
				random := rand.New(rand.NewPCG(uint64(seed), 1))
				for range 20 {
					compare(t, kind, empty(), data[:random.IntN(len(data)+1)], false)
				}
				broken := slices.Clone(data)
				for range 20 {
					if len(broken) > 0 {
						broken[random.IntN(len(broken))] = byte(random.Uint32())
						compare(t, kind, empty(), broken, true)
					}
				}
			}
		})
	}
}

// TestPodsOnTheWireShare: as Pods that were whole, and with those that were.
func TestPodsOnTheWireShare(t *testing.T) {
	t.Parallel()
	list := &corev1.PodList{Items: []corev1.Pod{*wholePod("ns", "one"), *wholePod("ns", "two"), *wholePod("other", "one")}}
	data, err := list.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	var r Reducer
	whole, _ := r.Reduce(wholePod("ns", "one")).(*Pod)
	var pods []*Pod
	w := r.Wire(&corev1.Pod{})
	if _, err := w.Page(enveloped(w.list, data), func(o any) { pods = append(pods, o.(*Pod)) }); err != nil {
		t.Fatal(err)
	}
	if pods[0].Alike != whole.Alike || pods[1].Alike != whole.Alike || pods[2].Alike == whole.Alike {
		t.Error("Pods of a template share nothing, or with another namespace")
	}
	if len(w.pods.known) > 3 { // two templates, one state
		t.Errorf("%d parts were decoded", len(w.pods.known))
	}
}

// TestNotOnTheWire: what is not the list in protobuf is for others to read, and nothing of
// it is shown.
func TestNotOnTheWire(t *testing.T) {
	t.Parallel()
	list, _ := (&corev1.PodList{Items: []corev1.Pod{*wholePod("ns", "one")}}).Marshal()
	pods := apiruntime.TypeMeta{APIVersion: "v1", Kind: "PodList"}
	body := func(u apiruntime.Unknown) []byte {
		u.Raw = list
		b, _ := u.Marshal()
		return append([]byte("k8s\x00"), b...)
	}
	for what, answer := range map[string][]byte{
		"nothing":          nil,
		"JSON":             []byte(`{"kind":"PodList","apiVersion":"v1","items":[]}`),
		"no envelope":      []byte("k8s\x00{}"),
		"another kind":     enveloped(apiruntime.TypeMeta{APIVersion: "v1", Kind: "Status"}, list),
		"another version":  enveloped(apiruntime.TypeMeta{APIVersion: "v2", Kind: "PodList"}, list),
		"encoded":          body(apiruntime.Unknown{TypeMeta: pods, ContentEncoding: "gzip"}),
		"of another type":  body(apiruntime.Unknown{TypeMeta: pods, ContentType: "application/json"}),
		"without a prefix": list,
	} {
		_, err := (&Reducer{}).Wire(&corev1.Pod{}).Page(answer, func(any) { t.Errorf("%s: something of it is shown", what) })
		if !errors.Is(err, ErrNotWire) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if (&Reducer{}).Wire(&corev1.Node{}) != nil {
		t.Error("Nodes are held as they are, and would be read from the wire")
	}
}

// FuzzWire: whatever comes, nothing panics, memory is in proportion to the answer, and what
// both read is the same.
func FuzzWire(f *testing.F) {
	for seed := range int64(3) {
		for _, empty := range wireKinds() {
			list := empty()
			shapes(seed).Fill(list)
			if data, err := list.Marshal(); err == nil {
				f.Add(data)
			}
		}
	}
	f.Add([]byte("k8s\x00\x12\xff\xff\xff\xff\x0f"))
	f.Fuzz(func(t *testing.T, data []byte) {
		for kind, empty := range wireKinds() {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, _, _ = wired(kind, data)
			runtime.ReadMemStats(&after)
			// Two bytes are a container, which is some 500 as a value.
			if took, most := after.TotalAlloc-before.TotalAlloc, uint64(1<<20+2000*len(data)); took > most {
				t.Errorf("%T: %d bytes take %d of memory, more than %d", kind, len(data), took, most)
			}
			_, _ = (&Reducer{}).Wire(kind).Page(data, func(any) {})
			compare(t, kind, empty(), data, true)
		}
	})
}
