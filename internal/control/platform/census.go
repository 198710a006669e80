package platform

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/control/cluster"
	"github.com/d8-registry/registry/internal/control/switchover"
	"github.com/d8-registry/registry/internal/layout"
)

// Census lists every image reference that starts with one of the names. Number is
// that of the switch. Image is the module's own image below a registry's base:
// every registry must have it.
func (m *Mover) Census(inv *cluster.Inventory, names []layout.Name, number int64, image string) switchover.Census {
	c := counter{names: names, seen: map[switchover.Reference]bool{}}
	for _, w := range inv.Workloads() {
		if !cluster.RefersTo(&w.Template.Spec, names) {
			continue
		}
		c.add(w.String(), &w.Template.Spec, switchover.Reference{OwnWorkload: w.Own, Movable: w.Platform && m.notOurs(w, number, names) == ""})
		if inv.Live && w.Unobserved {
			c.problem(w.String() + " was not yet observed by its controller")
		}
	}
	c.addUnmovable(inv)
	required, problems := required(inv, image)
	for _, p := range problems {
		c.problem(p)
	}
	slices.SortFunc(c.references, func(a, b switchover.Reference) int {
		return cmp.Or(cmp.Compare(a.Name.String(), b.Name.String()), cmp.Compare(a.User, b.User), cmp.Compare(a.Image, b.Image))
	})
	return switchover.Census{Live: inv.Live, Problem: strings.Join(c.problems, "; "), References: c.references, Required: required}
}

// addUnmovable adds what is never re-pointed: what is made from templates, and
// what has no template.
func (c *counter) addUnmovable(inv *cluster.Inventory) {
	for i := range inv.Jobs {
		if job := &inv.Jobs[i]; !cluster.Finished(job) {
			c.add("Job "+cluster.Key(job), &job.Spec.Template.Spec, switchover.Reference{})
		}
	}
	for i := range inv.ReplicaSets {
		rs := &inv.ReplicaSets[i]
		c.add("ReplicaSet "+cluster.Key(rs), &rs.Spec.Template.Spec, switchover.Reference{Retained: cluster.Idle(rs)})
	}
	for i := range inv.Replicators {
		rc := &inv.Replicators[i]
		if rc.Spec.Template != nil {
			c.add("ReplicationController "+cluster.Key(rc), &rc.Spec.Template.Spec, switchover.Reference{})
		}
	}
	for i := range inv.RegistryNodes {
		// Every pod on the node needs this image, but no template names it.
		c.addImage("sandbox of Node "+inv.RegistryNodes[i].Name, inv.RegistryNodes[i].Status.Containerd.SandboxImage, switchover.Reference{})
	}
	for i := range inv.Revisions {
		rev := &inv.Revisions[i]
		if spec, ok := cluster.RevisionSpec(rev); ok {
			c.add("ControllerRevision "+cluster.Key(rev), spec, switchover.Reference{Retained: !inv.MakesPods(rev)})
		}
	}
	for i := range inv.Pods {
		pod := &inv.Pods[i]
		if !cluster.PodEnded(pod) {
			c.add("Pod "+cluster.Key(pod), &pod.Spec, switchover.Reference{OwnWorkload: cluster.IsAgent(pod) || cluster.IsUninstall(pod)})
		}
	}
}

// counter collects references.
type counter struct {
	names      []layout.Name
	references []switchover.Reference
	seen       map[switchover.Reference]bool
	problems   []string
}

func (c *counter) problem(p string) {
	if len(c.problems) < 3 {
		c.problems = append(c.problems, p)
	}
}

// add adds the images of a pod. Like is a reference with what is known of user.
func (c *counter) add(user string, spec *corev1.PodSpec, like switchover.Reference) {
	for _, image := range cluster.Images(spec) {
		c.addImage(user, image, like)
	}
}

func (c *counter) addImage(user, image string, ref switchover.Reference) {
	name, rest, ok := layout.MatchName(c.names, image)
	if !ok {
		return
	}
	ref.Name, ref.Image, ref.User = name, rest, user
	if !c.seen[ref] {
		c.seen[ref] = true
		c.references = append(c.references, ref)
	}
}

// required are the images that users list in ConfigMaps, and our own. Problems
// are about ConfigMaps that cannot be read.
func required(inv *cluster.Inventory, image string) (list, problems []string) {
	list = []string{image}
	for i := range inv.RequiredImages {
		cm := &inv.RequiredImages[i]
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
		if sources[ref.Image] == "" {
			sources[ref.Image] = ref.User
		}
	}
	for i := range inv.RequiredImages {
		digests, _ := digestsOf(&inv.RequiredImages[i])
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
