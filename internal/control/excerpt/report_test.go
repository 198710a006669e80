package excerpt

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"unicode"

	corev1 "k8s.io/api/core/v1"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/upstream"
)

// fill puts a text into every string, and n items into every list.
func fill(v reflect.Value, text string, n int) {
	switch v.Kind() {
	case reflect.String:
		v.SetString(text)
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem(), text, n)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), n, n))
		for i := range n {
			fill(v.Index(i), text, n)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				fill(v.Field(i), text, n)
			}
		}
	default:
	}
}

// wantPrintable fails for what is not printable in the JSON of a value.
func wantPrintable(t *testing.T, what string, v any, most int) {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	text := string(data)
	if strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) || strings.Contains(text, `\u00`) || strings.Contains(text, `\n`) {
		t.Errorf("%s is not printable: %.300q", what, text)
	}
	if len(text) > most {
		t.Errorf("%s has %d bytes", what, len(text))
	}
}

// inCaches is what the caches hold of an object.
func inCaches(tb testing.TB, object any) any {
	tb.Helper()
	held, err := CacheOptions().DefaultTransform(object)
	if err != nil {
		tb.Fatal(err)
	}
	return held
}

// Whatever a node reports, and whatever its kubelet says: what the controller keeps
// of it is printable and of bounded size, in the cache and in a live list.
func TestReportsOfNodesArePrintable(t *testing.T) {
	t.Parallel()
	const text = "\n\x1b[2J\u009b\u202e\u200b"
	for what, repeat := range map[string]int{"short": 1, "huge": 1 << 13} {
		var rn v1alpha1.RegistryNode
		fill(reflect.ValueOf(&rn.Status).Elem(), strings.Repeat(text, repeat), 50)
		wantPrintable(t, what+" in the cache", inCaches(t, rn.DeepCopy()), 512<<10)
		reduceReport(&rn)
		wantPrintable(t, what+" live", rn.Status, 512<<10)
		node := &corev1.Node{}
		fill(reflect.ValueOf(&node.Status.NodeInfo).Elem(), strings.Repeat(text, repeat), 1)
		wantPrintable(t, what+" kubelet", inCaches(t, node), 16<<10)
	}
}

// The longest registry that settings take stays whole: what a node says of it is told
// apart by its whole name.
func TestARegistryIsNotCut(t *testing.T) {
	t.Parallel()
	longest := "https://" + "r.io/" + strings.Repeat("d", upstream.MaxRepo-len("r.io/"))
	rn := v1alpha1.RegistryNode{Status: v1alpha1.RegistryNodeStatus{Upstreams: []v1alpha1.UpstreamStatus{{Registry: longest}}}}
	reduceReport(&rn)
	if got := rn.Status.Upstreams[0].Registry; got != longest {
		t.Errorf("%d bytes of %d are left", len(got), len(longest))
	}
}

// The addresses of a node by which others reach it are kept, and nothing else that its kubelet
// says they are.
func TestAddressesOfNodes(t *testing.T) {
	t.Parallel()
	node := &corev1.Node{}
	for _, a := range []string{"10.0.0.1", "\x1b[2J", "127.0.0.1", "fd00:0::1", "fe80::1%eth0", "::ffff:10.0.0.2", "evil.example.com", "0.0.0.0"} {
		node.Status.Addresses = append(node.Status.Addresses, corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: a}, corev1.NodeAddress{Type: corev1.NodeExternalIP, Address: "203.0.113.1"})
	}
	held, ok := inCaches(t, node).(*corev1.Node)
	var got []string
	for _, a := range held.Status.Addresses {
		got = append(got, string(a.Type)+" "+a.Address)
	}
	if want := []string{"InternalIP 10.0.0.1", "InternalIP fd00::1", "InternalIP 10.0.0.2"}; !ok || !reflect.DeepEqual(got, want) {
		t.Errorf("%q", got)
	}
	for range 100 {
		node.Status.Addresses = append(node.Status.Addresses, corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: "10.0.0.1"})
	}
	if held, _ := inCaches(t, node).(*corev1.Node); len(held.Status.Addresses) > 8 {
		t.Errorf("%d addresses", len(held.Status.Addresses))
	}
}
