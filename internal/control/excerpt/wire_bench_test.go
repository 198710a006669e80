package excerpt_test

import (
	"syscall"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/d8-registry/registry/internal/control/excerpt"
	"github.com/d8-registry/registry/test/harness/fleet"
)

// BenchmarkLiveList: what 1,000 Pods and 1,000 ReplicaSets of an answer of the API server
// cost, decoded whole and reduced, and from the wire.
func BenchmarkLiveList(b *testing.B) {
	var pods corev1.PodList
	var sets appsv1.ReplicaSetList
	fleet.Large(40, 7, func(o client.Object) {
		switch o := o.(type) {
		case *corev1.Pod:
			pods.Items = append(pods.Items, *o)
		case *appsv1.ReplicaSet:
			sets.Items = append(sets.Items, *o)
		}
	})
	const many = 1000
	for len(sets.Items) < many {
		sets.Items = append(sets.Items, sets.Items...)
	}
	pods.Items, sets.Items = pods.Items[:many], sets.Items[:many]
	compareReading(b, "Pods", &corev1.Pod{}, "v1", &pods, func(r *excerpt.Reducer, data []byte) error {
		var list corev1.PodList
		err := list.Unmarshal(data)
		for i := range list.Items {
			r.Reduce(&list.Items[i])
		}
		return err
	})
	compareReading(b, "ReplicaSets", &appsv1.ReplicaSet{}, "apps/v1", &sets, func(r *excerpt.Reducer, data []byte) error {
		var list appsv1.ReplicaSetList
		err := list.Unmarshal(data)
		for i := range list.Items {
			r.Reduce(&list.Items[i])
		}
		return err
	})
}

func compareReading(b *testing.B, what string, kind client.Object, version string, list interface{ Marshal() ([]byte, error) }, whole func(*excerpt.Reducer, []byte) error) {
	b.Helper()
	data, err := list.Marshal()
	if err != nil {
		b.Fatal(err)
	}
	body, _ := (&runtime.Unknown{TypeMeta: runtime.TypeMeta{APIVersion: version, Kind: what[:len(what)-1] + "List"}, Raw: data}).Marshal()
	answer := append([]byte("k8s\x00"), body...)
	var r excerpt.Reducer
	wire := r.Wire(kind)
	for how, read := range map[string]func() error{
		"whole": func() error { return whole(&r, data) },
		"wire": func() error {
			_, err := wire.Page(answer, func(any) {})
			return err
		},
	} {
		b.Run(what+"/"+how, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(data)))
			before := processorTime(b)
			for b.Loop() {
				if err := read(); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric((processorTime(b)-before)*1e6/float64(b.N), "cpu-µs/op")
		})
	}
}

// processorTime is how many seconds the process has had, its collector included.
func processorTime(b *testing.B) float64 {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return float64(u.Utime.Nano()+u.Stime.Nano()) / 1e9
}
