package cluster

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/layout"
)

// Moves are what a template should name instead: container or volume -> image.
type Moves struct{ Containers, Inits, Volumes map[string]string }

// None reports whether nothing is to be changed.
func (m Moves) None() bool { return len(m.Containers)+len(m.Inits)+len(m.Volumes) == 0 }

// Rebase says what of a pod names one of the bases other than name, and what it
// should name instead.
func Rebase(spec *corev1.PodSpec, bases []layout.Name, name layout.Name) Moves {
	m := Moves{Containers: map[string]string{}, Inits: map[string]string{}, Volumes: map[string]string{}}
	move := func(to map[string]string, what, image string) {
		if have, rest, ok := layout.MatchName(bases, image); ok && have != name {
			to[what] = name.Reference(rest)
		}
	}
	for i := range spec.Containers {
		move(m.Containers, spec.Containers[i].Name, spec.Containers[i].Image)
	}
	for i := range spec.InitContainers {
		move(m.Inits, spec.InitContainers[i].Name, spec.InitContainers[i].Image)
	}
	for i := range spec.Volumes {
		if v := spec.Volumes[i].Image; v != nil {
			move(m.Volumes, spec.Volumes[i].Name, v.Reference)
		}
	}
	return m
}

// Repointing is one change of a workload's template.
type Repointing struct {
	Moves
	// Checksum is the template annotation that makes Deckhouse restart with its
	// registry; empty for others.
	Checksum string
	// Switch is the number of the switch that this is done in.
	Switch int64
}

// Repoint patches a workload that was seen. The error is ErrLost if it has
// changed meanwhile.
func (c *Client) Repoint(ctx context.Context, w Workload, r Repointing, opts ...client.PatchOption) error {
	data, err := json.Marshal(w.Repointed(r))
	if err != nil {
		return fmt.Errorf("encode patch: %w", err)
	}
	return c.PatchSeen(ctx, w.Object, client.RawPatch(types.StrategicMergePatchType, data), opts...)
}

// RepointedIn reports whether the workload says that it was re-pointed in the
// switch with this number.
func (w Workload) RepointedIn(number int64) bool {
	return w.GetAnnotations()[v1alpha1.AnnotationRepointed] == strconv.FormatInt(number, 10)
}

// Repointed is the patch of one workload: images, the annotations that tell a
// later pass what was done, and UID and version of what was seen, so that
// nothing that was changed or made anew meanwhile is overwritten. All of it is
// one write, so that a crash knows what was done.
func (w Workload) Repointed(r Repointing) *unstructured.Unstructured {
	template := map[string]any{}
	if !r.None() {
		spec := map[string]any{}
		if list := containerList(w.Template.Spec.Containers, r.Containers); len(list) > 0 {
			spec["containers"] = list
		}
		if list := containerList(w.Template.Spec.InitContainers, r.Inits); len(list) > 0 {
			spec["initContainers"] = list
		}
		if len(r.Volumes) > 0 {
			spec["volumes"] = volumeList(w.Template.Spec.Volumes, r.Volumes)
		}
		template["spec"] = spec
	}
	if r.Checksum != "" {
		template["metadata"] = map[string]any{"annotations": map[string]any{v1alpha1.AnnotationRegistryChecksum: r.Checksum}}
	}
	spec := map[string]any{"template": template}
	if w.Kind.Kind == "CronJob" {
		spec = map[string]any{"jobTemplate": map[string]any{"spec": spec}}
	}
	u := &unstructured.Unstructured{Object: map[string]any{"spec": spec}}
	u.SetGroupVersionKind(w.Kind)
	u.SetNamespace(w.GetNamespace())
	u.SetName(w.GetName())
	u.SetUID(w.GetUID())
	u.SetResourceVersion(w.GetResourceVersion())
	u.SetAnnotations(map[string]string{
		v1alpha1.AnnotationRepointed: strconv.FormatInt(r.Switch, 10),
		v1alpha1.AnnotationAvailable: strconv.Itoa(w.Pods.Available),
	})
	return u
}

// containerList is in the template's order: the API server puts containers into
// the order of a patch, and init containers run in it.
func containerList(of []corev1.Container, changes map[string]string) []any {
	list := make([]any, 0, len(changes))
	for i := range of {
		if image, ok := changes[of[i].Name]; ok {
			list = append(list, map[string]any{"name": of[i].Name, "image": image})
		}
	}
	return list
}

func volumeList(of []corev1.Volume, changes map[string]string) []any {
	list := make([]any, 0, len(changes))
	for i := range of {
		if image, ok := changes[of[i].Name]; ok {
			list = append(list, map[string]any{"name": of[i].Name, "image": map[string]any{"reference": image}})
		}
	}
	return list
}
