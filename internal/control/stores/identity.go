package stores

import (
	"iter"
	"time"

	corev1 "k8s.io/api/core/v1"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/control/cluster"
	"github.com/d8-registry/registry/internal/datapath/regauth"
)

// Behind names the stores that do not serve by the users and the CA of a Wish yet. Of those that
// may run it asks each whose node is Ready: it may be asked although it does not serve now.
func (w Wish) Behind(there *cluster.Snapshot, now time.Time) []string {
	var behind []string
	asked := 0
	for _, c := range w.candidates(there) {
		s := c.spec()
		if s == nil || s.Approved == "" || !cluster.IsReady(c.node) {
			continue
		}
		asked++
		// With another CA it is to have another certificate, which it may not have been given yet.
		certificate, err := w.sign(c, s.Certificate, now)
		r := c.report()
		if err != nil || certificate != s.Certificate || r == nil || r.Identity != regauth.Fingerprint(w.Users, []byte(s.Certificate)) {
			behind = append(behind, "the store of node "+c.node.Name)
		}
	}
	if asked == 0 && !w.None {
		return []string{"a store"}
	}
	return behind
}

// OldUses are by node the last uses of passwords that are being replaced, as its store tells them.
func OldUses(there *cluster.Snapshot) iter.Seq2[string, string] {
	return func(yield func(node, uses string) bool) {
		for node, r := range reports(there) {
			if r.OldUse != "" && !yield(string(node.UID), r.OldUse) {
				return
			}
		}
	}
}

// reports are what all nodes say of their stores, also of those that should run none any more.
func reports(there *cluster.Snapshot) iter.Seq2[*corev1.Node, *v1alpha1.StoreStatus] {
	return func(yield func(*corev1.Node, *v1alpha1.StoreStatus) bool) {
		for i := range there.Nodes {
			node := &there.Nodes[i]
			if r := reportOf(node, there.RegistryNodes[node.Name]); r != nil && !yield(node, r) {
				return
			}
		}
	}
}
