package nodestore

import (
	"slices"
	"strings"
	"testing"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/node/nodeservices"
)

// TestWhoWantsADaemonSet: a node whose kubelet takes no static pods asks for one when its files
// are there, and then whatever happens. No static pod is written beside one, and one that was
// written before the node heard of it goes.
func TestWhoWantsADaemonSet(t *testing.T) {
	t.Parallel()
	const folder = "/etc/kubernetes/manifests"
	none := nodeservices.ErrNoStaticPods
	for name, row := range map[string]struct {
		noFolder error
		place    Place
		change   func(n *node, s *v1alpha1.StoreSpec)
		want     bool
		state    string
		says     string
		applied  []string
	}{
		"static pods": {nil, Place{}, func(n *node, _ *v1alpha1.StoreSpec) { n.process = nil },
			false, v1alpha1.StoreWaiting, "it waits for the kubelet", []string{folder}},
		"none": {none, Place{}, func(n *node, _ *v1alpha1.StoreSpec) { n.process = nil },
			true, v1alpha1.StoreWaiting, "it waits for a DaemonSet: no static pods here", []string{""}},
		"the root for them": {nil, Place{}, func(n *node, _ *v1alpha1.StoreSpec) { n.process, n.folder = nil, "/" },
			true, v1alpha1.StoreWaiting, "it waits for a DaemonSet", []string{""}},
		"none, and no certificate yet": {none, Place{}, func(n *node, s *v1alpha1.StoreSpec) { n.process, s.Certificate = nil, "" },
			false, v1alpha1.StoreWaiting, "it waits for a certificate", []string{""}},
		"none, and no approval yet": {none, Place{}, func(n *node, s *v1alpha1.StoreSpec) { n.process, s.Approved = nil, "" },
			true, v1alpha1.StoreWaiting, "waits for approval", []string{""}},
		"none, and files are refused": {none, Place{}, func(n *node, _ *v1alpha1.StoreSpec) {
			n.process, n.secret.Data["layout"] = nil, []byte("refused")
		}, false, v1alpha1.StoreFailing, "it is a link", []string{""}},
		"none, and no Secret": {none, Place{}, func(n *node, _ *v1alpha1.StoreSpec) { n.process, n.secret = nil, nil },
			false, v1alpha1.StoreWaiting, "there is no Secret", nil},
		"it runs by one":                       {none, Place{DaemonSet: true}, func(_ *node, s *v1alpha1.StoreSpec) { s.DaemonSet = true }, true, v1alpha1.StoreServing, "", []string{""}},
		"it runs by one, and the agent is new": {none, Place{}, func(_ *node, s *v1alpha1.StoreSpec) { s.DaemonSet = true }, true, v1alpha1.StoreServing, "", []string{""}},
		"it runs by one, and the Secret is gone": {none, Place{DaemonSet: true}, func(n *node, s *v1alpha1.StoreSpec) { n.secret, s.DaemonSet = nil, true },
			true, v1alpha1.StoreServing, "there is no Secret", nil},
		"a static pod runs, and the kubelet is away": {none, Place{StaticPods: folder}, func(*node, *v1alpha1.StoreSpec) {},
			false, v1alpha1.StoreServing, "", []string{folder}},
		"and nobody knows of it": {none, Place{}, func(*node, *v1alpha1.StoreSpec) {}, false, v1alpha1.StoreServing, "", []string{""}},
		"static pods now": {nil, Place{DaemonSet: true}, func(_ *node, s *v1alpha1.StoreSpec) { s.DaemonSet = true },
			false, v1alpha1.StoreServing, "it waits for the end of its DaemonSet", []string{""}},
		"static pods now, and it does not run": {nil, Place{DaemonSet: true}, func(n *node, s *v1alpha1.StoreSpec) { n.process, s.DaemonSet = nil, true },
			false, v1alpha1.StoreWaiting, "it waits for the end of its DaemonSet", []string{""}},
		"its image is kept from static pods": {nil, Place{StaticPods: folder}, func(n *node, s *v1alpha1.StoreSpec) { n.process, s.PullSecret = nil, true },
			true, v1alpha1.StoreWaiting, "it waits for a DaemonSet: the kubelet gives its image to no pod without a pull secret", []string{""}},
		"and it serves all the same": {nil, Place{StaticPods: folder}, func(_ *node, s *v1alpha1.StoreSpec) { s.PullSecret = true },
			false, v1alpha1.StoreServing, "", []string{folder}},
		"and it runs by one": {nil, Place{DaemonSet: true}, func(_ *node, s *v1alpha1.StoreSpec) { s.PullSecret, s.DaemonSet = true, true },
			true, v1alpha1.StoreServing, "", []string{""}},
		"and the kubelet is away": {none, Place{StaticPods: folder}, func(n *node, s *v1alpha1.StoreSpec) { n.process, s.PullSecret = nil, true },
			true, v1alpha1.StoreWaiting, "it waits for a DaemonSet", []string{""}},
		"static pods now, and it has ended": {nil, Place{DaemonSet: true}, func(n *node, _ *v1alpha1.StoreSpec) { n.process = nil },
			false, v1alpha1.StoreWaiting, "it waits for the kubelet", []string{folder}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := newNode(t, row.place)
			n.secret, n.process, n.noFolder = someSecret(), serving(), row.noFolder
			spec := someSpec()
			row.change(n, spec)
			s, _ := n.pass(spec, false)
			if s.DaemonSet != row.want || s.State != row.state || !strings.Contains(s.Message, row.says) || (row.says == "") != (s.Message == "") {
				t.Errorf("%+v", s)
			}
			var applied []string
			did := n.done()
			if stopped := slices.Contains(did, `stop "`+folder+`"`); stopped != ((spec.DaemonSet || spec.PullSecret && n.process == nil) && len(row.applied) > 0 && (row.noFolder == nil || row.place.StaticPods != "" && spec.PullSecret)) {
				t.Errorf("the static pod is stopped: %v", stopped)
			}
			for _, did := range did {
				if rest, ok := strings.CutPrefix(did, "apply "); ok {
					applied = append(applied, strings.Trim(strings.TrimSuffix(rest, " v1"), `"`))
				}
			}
			if !slices.Equal(applied, row.applied) {
				t.Errorf("written: %q, want %q", applied, row.applied)
			}
			if len(applied) > 0 && n.saved == (Place{}) {
				t.Error("files are there, and nobody knows")
			}
		})
	}
}
