package platform

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/d8-registry/registry/internal/control/cluster"
	"github.com/d8-registry/registry/internal/control/excerpt"
)

// podIndex finds the pods of a workload without a look at all others.
type podIndex struct {
	byLabel     map[podLabel][]*podGroup
	byNamespace map[string][]*podGroup
}

// podGroup are pods that are alike.
type podGroup struct {
	labels labels.Set
	pods   []*excerpt.Pod
}

type podLabel struct{ namespace, key, value string }

// indexPods makes an index of the pods that run.
func indexPods(inv *cluster.Inventory) *podIndex {
	groups := map[*excerpt.Alike]*podGroup{}
	x := &podIndex{map[podLabel][]*podGroup{}, map[string][]*podGroup{}}
	for _, pod := range inv.Pods {
		if pod.GetDeletionTimestamp() != nil || pod.Ended {
			continue
		}
		group := groups[pod.Alike]
		if group == nil {
			group = &podGroup{labels: pod.Labels}
			groups[pod.Alike] = group
			x.byNamespace[pod.Namespace] = append(x.byNamespace[pod.Namespace], group)
			for key, value := range pod.Labels {
				at := podLabel{pod.Namespace, key, value}
				x.byLabel[at] = append(x.byLabel[at], group)
			}
		}
		group.pods = append(group.pods, pod)
	}
	return x
}

// of are the pods that the workload made and that still run.
func (x *podIndex) of(w cluster.Workload) []*excerpt.Pod {
	selector, err := metav1.LabelSelectorAsSelector(w.Selector) // nothing for nil
	if err != nil || w.Selector == nil {
		return nil
	}
	groups := x.byNamespace[w.GetNamespace()]
	for key, value := range w.Selector.MatchLabels {
		if fewer := x.byLabel[podLabel{w.GetNamespace(), key, value}]; len(fewer) < len(groups) {
			groups = fewer
		}
	}
	var pods []*excerpt.Pod
	for _, group := range groups {
		if selector.Matches(group.labels) {
			pods = append(pods, group.pods...)
		}
	}
	return pods
}
