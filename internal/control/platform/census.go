package platform

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/control/cluster"
	"github.com/d8-registry/registry/internal/control/switchover"
	"github.com/d8-registry/registry/internal/layout"
)

// Census lists every image reference that starts with one of the names. Number is
// that of the switch. Image is the module's own image below a registry's base:
// every registry must have it.
//
// Each reference says whose it is. Everybody may refer to a name, but only what is
// the platform's may hold a switch up.
func (m *Mover) Census(inv *cluster.Inventory, names []layout.Name, number int64, image string) switchover.Census {
	c := counter{inv: inv, names: names, seen: map[switchover.Reference]bool{}, ignored: map[types.UID]bool{}}
	for _, w := range inv.Workloads() {
		ref := c.of(w.Kind.Kind, w.Object)
		if !cluster.RefersTo(&w.Template.Spec, names) {
			continue
		}
		ref.OwnWorkload, ref.Movable = w.Own, w.Platform && m.notOurs(w, number, names) == ""
		ref.Foreign = ref.Foreign && !w.Platform
		c.add(&w.Template.Spec, ref)
		if inv.Live && w.Unobserved && !ref.Foreign && !ref.Ignored {
			c.problem(w.String() + " was not yet observed by its controller")
		}
	}
	c.addUnmovable()
	required, problems := required(inv, image)
	for _, p := range problems {
		c.problem(p)
	}
	slices.SortFunc(c.references, func(a, b switchover.Reference) int {
		return cmp.Or(cmp.Compare(a.Name.String(), b.Name.String()), cmp.Compare(a.User, b.User), cmp.Compare(a.Image, b.Image))
	})
	return switchover.Census{
		Live: inv.Live, Problem: strings.Join(c.problems, "; "), References: c.references,
		Required: required, Lists: len(inv.RequiredImages) - len(lists(inv)),
	}
}

// addUnmovable adds what is never re-pointed: what is made from templates, and
// what has no template. Owners come before what they make.
func (c *counter) addUnmovable() {
	inv := c.inv
	for i := range inv.Jobs {
		job := &inv.Jobs[i]
		if ref := c.of("Job", job); !cluster.Finished(job) {
			c.add(&job.Spec.Template.Spec, ref)
		}
	}
	for i := range inv.ReplicaSets {
		rs := &inv.ReplicaSets[i]
		ref := c.of("ReplicaSet", rs)
		ref.Retained = cluster.Idle(rs)
		c.add(&rs.Spec.Template.Spec, ref)
	}
	for i := range inv.Replicators {
		rc := &inv.Replicators[i]
		if ref := c.of("ReplicationController", rc); rc.Spec.Template != nil {
			c.add(&rc.Spec.Template.Spec, ref)
		}
	}
	for i := range inv.RegistryNodes {
		// Every pod on the node needs this image, but no template names it.
		node := &inv.RegistryNodes[i]
		c.addImage(node.Status.Containerd.SandboxImage, switchover.Reference{User: "sandbox of Node " + node.Name, Node: node.Name})
	}
	for i := range inv.Revisions {
		rev := &inv.Revisions[i]
		if spec, ok := cluster.RevisionSpec(rev); ok {
			ref := c.of("ControllerRevision", rev)
			ref.Retained = !inv.MakesPods(rev)
			c.add(spec, ref)
		}
	}
	for i := range inv.Pods {
		pod := &inv.Pods[i]
		if !cluster.PodEnded(pod) {
			ref := c.of("Pod", pod)
			ref.OwnWorkload = cluster.IsAgent(pod) || cluster.IsUninstall(pod)
			c.add(&pod.Spec, ref)
		}
	}
}

// counter collects references.
type counter struct {
	inv        *cluster.Inventory
	names      []layout.Name
	references []switchover.Reference
	seen       map[switchover.Reference]bool
	ignored    map[types.UID]bool // objects that the operator says to ignore
	problems   []string
}

func (c *counter) problem(p string) {
	if len(c.problems) < 3 {
		c.problems = append(c.problems, p)
	}
}

// of is a reference by an object, without the image. What an ignored object makes
// is ignored too: annotations of a workload are not those of its pods.
func (c *counter) of(kind string, o client.Object) switchover.Reference {
	namespace := o.GetNamespace()
	ignored := c.inv.Ignored[namespace] || cluster.IsIgnored(o)
	if owner := metav1.GetControllerOf(o); owner != nil {
		ignored = ignored || c.ignored[owner.UID]
	}
	if ignored {
		c.ignored[o.GetUID()] = true
	}
	return switchover.Reference{User: kind + " " + cluster.Key(o), Namespace: namespace, Foreign: c.inv.IsTenants(namespace), Ignored: ignored}
}

// add adds the images of a pod. Like is a reference with what is known of user.
func (c *counter) add(spec *corev1.PodSpec, like switchover.Reference) {
	for _, image := range cluster.Images(spec) {
		c.addImage(image, like)
	}
}

func (c *counter) addImage(image string, ref switchover.Reference) {
	name, rest, ok := layout.MatchName(c.names, image)
	if !ok {
		return
	}
	ref.Name, ref.Image = name, rest
	if !c.seen[ref] {
		c.seen[ref] = true
		c.references = append(c.references, ref)
	}
}

// required are the images that users list in ConfigMaps, and our own. Problems
// are about ConfigMaps that cannot be read.
func required(inv *cluster.Inventory, image string) (list, problems []string) {
	list = []string{image}
	for _, cm := range lists(inv) {
		digests, err := digestsOf(cm)
		if err != nil {
			problems = append(problems, fmt.Sprintf("ConfigMap %s: %v", cluster.Key(cm), err))
		}
		for digest := range digests {
			list = append(list, "@"+digest)
		}
	}
	slices.Sort(list)
	return slices.Compact(list), problems
}

// lists are the ConfigMaps that list required images: the platform's. Everybody
// may label theirs.
func lists(inv *cluster.Inventory) []*corev1.ConfigMap {
	var all []*corev1.ConfigMap
	for i := range inv.RequiredImages {
		if cm := &inv.RequiredImages[i]; !inv.IsTenants(cm.Namespace) && !inv.Ignored[cm.Namespace] && !cluster.IsIgnored(cm) {
			all = append(all, cm)
		}
	}
	return all
}

// digestsOf reads images_digests.json of a ConfigMap: digest -> what needs it.
func digestsOf(cm *corev1.ConfigMap) (map[string]string, error) {
	var modules map[string]map[string]string
	if err := json.Unmarshal([]byte(cm.Data["images_digests.json"]), &modules); err != nil {
		return nil, fmt.Errorf("read images_digests.json: %w", err)
	}
	digests := map[string]string{}
	for module, images := range modules {
		for image, digest := range images {
			source := "module/" + module + "/" + image
			if have := digests[digest]; have == "" || source < have {
				digests[digest] = source
			}
		}
	}
	return digests, nil
}

// Sources say what needs an image, for the messages of the image check. Image is
// the module's own.
func Sources(inv *cluster.Inventory, census switchover.Census, image string) map[string]string {
	sources := map[string]string{}
	for _, ref := range census.References {
		if sources[ref.Image] == "" && !ref.Foreign && !ref.Ignored {
			sources[ref.Image] = ref.User
		}
	}
	for _, cm := range lists(inv) {
		digests, _ := digestsOf(cm)
		for digest, source := range digests {
			sources["@"+digest] = source
		}
	}
	if w := inv.OwnWorkload("Deployment", v1alpha1.DeploymentDeckhouse); w != nil {
		for _, container := range slices.Concat(w.Template.Spec.InitContainers, w.Template.Spec.Containers) {
			for _, ref := range census.References {
				if container.Image == ref.Name.Reference(ref.Image) {
					sources[ref.Image] = "deckhouse/containers/" + container.Name
				}
			}
		}
	}
	sources[image] = "registry/registry"
	return sources
}
