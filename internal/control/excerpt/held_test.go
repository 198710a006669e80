package excerpt

import (
	"maps"
	"runtime"
	"slices"
	"strings"
	"testing"
	"unsafe"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
)

// wholePod is a Pod as the API server sends it.
func wholePod(namespace, name string) *corev1.Pod {
	yes := true
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
		Namespace: namespace, Name: name, UID: "uid-of-pod", ResourceVersion: "7", Labels: map[string]string{"app": "a"},
		Annotations:     map[string]string{"some": "annotation"},
		OwnerReferences: []metav1.OwnerReference{{Kind: "Other"}, {APIVersion: "apps/v1", Kind: "DaemonSet", Name: "a", UID: "uid-of-a", Controller: &yes}},
	}}
	pod.Spec.NodeName = "w1"
	pod.Spec.Containers = []corev1.Container{{Name: "main", Image: "r.io/a:1", Env: make([]corev1.EnvVar, 20)}, {Name: "more", Image: "r.io/b:1"}}
	pod.Spec.ImagePullSecrets = []corev1.LocalObjectReference{{Name: v1alpha1.SecretRegistry}}
	return pod
}

// TestPodsOfATemplateShare: what pods of one template have in common is there once, and
// each is an object by its own name.
func TestPodsOfATemplateShare(t *testing.T) {
	t.Parallel()
	var s Reducer
	reduced := func(namespace, name string) *Pod { return s.Reduce(wholePod(namespace, name)).(*Pod) }
	one, two, other := reduced("ns", "one"), reduced("ns", "two"), reduced("other", "one")
	if one.Alike != two.Alike || one.Alike == other.Alike {
		t.Error("pods of a template share nothing, or with another namespace")
	}
	var o client.Object = two
	if client.ObjectKeyFromObject(o) != (client.ObjectKey{Namespace: "ns", Name: "two"}) || o.GetUID() != "uid-of-pod" || o.GetResourceVersion() != "7" {
		t.Errorf("it is %s/%s", o.GetNamespace(), o.GetName())
	}
	owner := metav1.GetControllerOf(two)
	if owner == nil || owner.UID != "uid-of-a" || !slices.Equal(two.Images, []string{"r.io/a:1", "r.io/b:1"}) || !two.PullsWithOurs || two.Node != "w1" || len(two.GetAnnotations()) > 0 {
		t.Errorf("it is held as %+v of %+v", two, two.Alike)
	}
	if ours := reduced(v1alpha1.Namespace, "ours"); ours.GetAnnotations()["some"] == "" {
		t.Error("what our own pods say of themselves is lost")
	}
}

// TestWhatIsTheSameIsHeldOnce: ReplicaSets of a Deployment share all but their images, an
// object has each image once, and nodes have one copy of the words of their labels.
func TestWhatIsTheSameIsHeldOnce(t *testing.T) {
	t.Parallel()
	var s Reducer
	replicaSet := func(namespace, image string) *Maker {
		pod := wholePod(namespace, "one")
		pod.Spec.Containers[0].Image, pod.Spec.Containers[1].Image = image, image
		return s.Reduce(&appsv1.ReplicaSet{ObjectMeta: pod.ObjectMeta, Spec: appsv1.ReplicaSetSpec{Template: corev1.PodTemplateSpec{Spec: pod.Spec}}}).(*Maker)
	}
	one, two, other := replicaSet("ns", "r.io/a:1"), replicaSet("ns", "r.io/a:2"), replicaSet("other", "r.io/a:1")
	if one.ObjectMeta != two.ObjectMeta || one.ObjectMeta == other.ObjectMeta {
		t.Error("ReplicaSets of a Deployment share nothing, or with another namespace")
	}
	if !slices.Equal(one.Images, []string{"r.io/a:1"}) || !slices.Equal(two.Images, []string{"r.io/a:2"}) {
		t.Errorf("their images are %v and %v", one.Images, two.Images)
	}
	word := func() *byte {
		node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{strings.Clone("key"): "value"}}}
		for key := range s.Reduce(node).(*corev1.Node).Labels {
			return unsafe.StringData(key)
		}
		return nil
	}
	if a, b := word(), word(); a == nil || a != b {
		t.Error("each node has words of its own")
	}
}

// TestWhatIsHeldShort comes back as it was.
func TestWhatIsHeldShort(t *testing.T) {
	t.Parallel()
	for _, uid := range []types.UID{
		"", "0f8fad5b-d9cb-469f-a165-70867728950e", "0F8FAD5B-D9CB-469F-A165-70867728950E", "{0f8fad5b-d9cb-469f-a165-70867728950e}", "00000000-0000-0000-0000-000000000000", "uid-of-pod",
	} {
		for _, version := range []string{"", "0", "1", "18446744073709551615", "18446744073709551616", "007", "+7", "v1"} {
			whole := wholePod("ns", "one")
			whole.UID, whole.ResourceVersion = uid, version
			if pod := PodOf(whole); pod.GetUID() != uid || pod.GetResourceVersion() != version {
				t.Errorf("uid %q and version %q are %q and %q", uid, version, pod.GetUID(), pod.GetResourceVersion())
			}
		}
	}
}

// TestWhatOthersSayOfANode is not held.
func TestWhatOthersSayOfANode(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ of, want map[string]string }{
		{nil, nil},
		{map[string]string{"csi.volume.kubernetes.io/nodeid": "long", "registry.deckhouse.io.example.com/a": "b"}, nil},
		{map[string]string{"a": "b", v1alpha1.AnnotationVersion: "v", v1alpha1.AnnotationExclude: "true"}, map[string]string{v1alpha1.AnnotationVersion: "v", v1alpha1.AnnotationExclude: "true"}},
	} {
		node := (&Reducer{}).Reduce(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Annotations: c.of}}).(*corev1.Node)
		if !maps.Equal(node.Annotations, c.want) {
			t.Errorf("of %v %v is held, want %v", c.of, node.Annotations, c.want)
		}
	}
}

// TestCachesHoldLittle: a whole Pod or ReplicaSet has some ten kilobytes.
func TestCachesHoldLittle(t *testing.T) {
	wholePod := func() *corev1.Pod {
		pod := wholePod("ns", "one")
		pod.UID = "0f8fad5b-d9cb-469f-a165-70867728950e"
		return pod
	}
	for _, c := range []struct {
		what  string
		most  int64
		whole func() client.Object
	}{
		{"Pod", 100, func() client.Object { return wholePod() }},
		{"ReplicaSet", 200, func() client.Object {
			pod := wholePod()
			return &appsv1.ReplicaSet{ObjectMeta: pod.ObjectMeta, Spec: appsv1.ReplicaSetSpec{Template: corev1.PodTemplateSpec{ObjectMeta: pod.ObjectMeta, Spec: pod.Spec}}}
		}},
	} {
		const many = 10_000
		kept, keep := make([]any, 0, many), CacheOptions().DefaultTransform
		before := heapOf()
		for range many {
			held, err := keep(c.whole())
			if err != nil {
				t.Fatal(err)
			}
			kept = append(kept, held)
		}
		if got := (heapOf() - before) / many; got > c.most {
			t.Errorf("of a %s %d bytes are kept, more than %d", c.what, got, c.most)
		}
		runtime.KeepAlive(kept)
	}
}

func heapOf() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
