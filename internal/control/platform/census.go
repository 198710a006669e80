package platform

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/control/cluster"
	"github.com/d8-registry/registry/internal/control/excerpt"
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
	c := counter{inv: inv, names: names, matches: map[string]*match{}, tenants: map[string]bool{}, ignored: map[types.UID]bool{}}
	for _, w := range inv.Workloads() {
		images := excerpt.Images(&w.Template.Spec)
		ref, refers := c.of(w.Kind.Kind, w.Object, images)
		if !refers {
			continue
		}
		ref.OwnWorkload, ref.Movable = w.Own, w.Platform && m.notOurs(w, number, names) == ""
		ref.Foreign = ref.Foreign && !w.Platform
		c.add(images, ref)
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
		return cmp.Or(a.Name.Compare(b.Name), strings.Compare(a.User, b.User), strings.Compare(a.Image, b.Image))
	})
	return switchover.Census{
		Live: inv.Live, Problem: strings.Join(c.problems, "; "), References: c.references,
		Required: required, Lists: len(inv.RequiredImages) - len(lists(inv)),
	}
}

// addUnmovable adds what is never re-pointed: what is made from templates, and
// what has no template. Owners come before what they make.
func (c *counter) addUnmovable() {
	rolling := c.rolling()
	for _, m := range c.inv.Makers {
		ref, refers := c.of(m.Kind, m, m.Images)
		if m.Ended || !refers {
			continue
		}
		ref.Retained = m.Idle || m.Kind == "ControllerRevision" && !rolling[client.ObjectKeyFromObject(m)]
		c.add(m.Images, ref)
	}
	for i := range c.inv.RegistryNodes {
		// Every pod on the node needs this image, but no template names it.
		node := &c.inv.RegistryNodes[i]
		c.add([]string{node.Status.Containerd.SandboxImage}, switchover.Reference{User: "sandbox of Node " + node.Name, Node: node.Name})
	}
	for _, pod := range c.inv.Pods {
		if pod.Ended {
			continue
		}
		if ref, refers := c.of("Pod", pod, pod.Images); refers {
			ref.OwnWorkload = pod.IsAgent() || pod.IsStore() || pod.IsUninstall()
			c.add(pod.Images, ref)
		}
	}
}

// rolling names the revisions from which StatefulSets still make pods: before a rollout
// has ended, or below the partition. Pods that run already count as pods, and those of
// the newest revision as template.
func (c *counter) rolling() map[client.ObjectKey]bool {
	rolling := map[client.ObjectKey]bool{}
	for i := range c.inv.StatefulSets {
		if s := &c.inv.StatefulSets[i]; s.Status.CurrentRevision != s.Status.UpdateRevision {
			rolling[client.ObjectKey{Namespace: s.Namespace, Name: s.Status.CurrentRevision}] = true
		}
	}
	return rolling
}

// counter collects references. There may be a hundred thousand objects with a few
// thousand images in a few hundred namespaces.
type counter struct {
	inv        *cluster.Inventory
	names      []layout.Name
	references []switchover.Reference
	matches    map[string]*match  // by image; nil if it is under none of the names
	tenants    map[string]bool    // by namespace
	ignored    map[types.UID]bool // objects that the operator says to ignore
	problems   []string
}

// match is what an image reference is under one of the names.
type match struct {
	name layout.Name
	rest string
}

func (c *counter) match(image string) *match {
	m, known := c.matches[image]
	if !known {
		if name, rest, ok := layout.MatchName(c.names, image); ok {
			m = &match{name, rest}
		}
		c.matches[image] = m
	}
	return m
}

func (c *counter) problem(p string) {
	if len(c.problems) < 3 {
		c.problems = append(c.problems, p)
	}
}

// of is a reference by an object, without the image; false if none of its images is
// under one of the names. What an ignored object makes is ignored too: annotations of
// a workload are not those of its pods.
func (c *counter) of(kind string, o client.Object, images []string) (switchover.Reference, bool) {
	namespace := o.GetNamespace()
	ignored := c.inv.Ignored[namespace] || excerpt.IsIgnored(o)
	if owner := metav1.GetControllerOfNoCopy(o); owner != nil {
		ignored = ignored || c.ignored[owner.UID]
	}
	if ignored {
		c.ignored[o.GetUID()] = true
	}
	if !slices.ContainsFunc(images, func(image string) bool { return c.match(image) != nil }) {
		return switchover.Reference{}, false
	}
	foreign, known := c.tenants[namespace]
	if !known {
		foreign = c.inv.IsTenants(namespace)
		c.tenants[namespace] = foreign
	}
	return switchover.Reference{User: kind + " " + cluster.Key(o), Namespace: namespace, Foreign: foreign, Ignored: ignored}, true
}

// add adds the images of one object, which has each once. Like is a reference with what
// is known of user.
func (c *counter) add(images []string, like switchover.Reference) {
	for _, image := range images {
		if m := c.match(image); m != nil {
			like.Name, like.Image = m.name, m.rest
			c.references = append(c.references, like)
		}
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
		if cm := &inv.RequiredImages[i]; !inv.IsTenants(cm.Namespace) && !inv.Ignored[cm.Namespace] && !excerpt.IsIgnored(cm) {
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
		names := map[layout.Name]bool{}
		for _, ref := range census.References {
			names[ref.Name] = true
		}
		for _, container := range slices.Concat(w.Template.Spec.InitContainers, w.Template.Spec.Containers) {
			if _, image, ok := layout.MatchName(slices.Collect(maps.Keys(names)), container.Image); ok {
				sources[image] = "deckhouse/containers/" + container.Name
			}
		}
	}
	sources[image] = "registry/registry"
	return sources
}
