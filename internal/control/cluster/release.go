package cluster

import (
	"encoding/json"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Release is the patch after which the fields that manager changed belong to
// nobody, with their values as they are; nil when it owns none. What it applied,
// or wrote into the status, stays its own. The patch is for the version of the
// object that was seen.
func Release(object metav1.Object, manager string) (client.Patch, error) {
	type operation struct {
		Op    string `json:"op"`
		Path  string `json:"path"`
		Value string `json:"value,omitempty"`
	}
	steps := []operation{{"replace", "/metadata/resourceVersion", object.GetResourceVersion()}}
	entries := object.GetManagedFields()
	// From the end, so that what is removed moves nothing that is still to go.
	for i := len(entries) - 1; i >= 0; i-- {
		if e := entries[i]; e.Manager == manager && e.Operation == metav1.ManagedFieldsOperationUpdate && e.Subresource != "status" {
			steps = append(steps, operation{Op: "remove", Path: fmt.Sprintf("/metadata/managedFields/%d", i)})
		}
	}
	if len(steps) == 1 {
		return nil, nil //nolint:nilnil // nothing to do is an answer here
	}
	data, err := json.Marshal(steps)
	if err != nil {
		return nil, fmt.Errorf("encode patch: %w", err)
	}
	return client.RawPatch(types.JSONPatchType, data), nil
}
