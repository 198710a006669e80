package cluster

import (
	"bytes"
	"context"
	"fmt"
	"net/http"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"
)

// Raw asks the API server for lists and leaves the answer as it comes. It asks as a typed
// client does: for protobuf if the kind has it.
type Raw struct {
	config *rest.Config
	http   *http.Client
	scheme *runtime.Scheme
	mapper meta.RESTMapper
}

// NewRaw is a Raw for the kinds of a scheme.
func NewRaw(config *rest.Config, http *http.Client, scheme *runtime.Scheme, mapper meta.RESTMapper) *Raw {
	return &Raw{config: config, http: http, scheme: scheme, mapper: mapper}
}

// page reads a page of the list of a kind into a buffer. Its errors are those of a typed
// client.
func (r *Raw) page(ctx context.Context, kind client.Object, token string, into *bytes.Buffer) error {
	gvk, err := apiutil.GVKForObject(kind, r.scheme)
	if err != nil {
		return fmt.Errorf("find the kind: %w", err)
	}
	mapping, err := r.mapper.RESTMapping(gvk.GroupKind(), gvk.Version)
	if err != nil {
		return fmt.Errorf("find the resource: %w", err)
	}
	api, err := apiutil.RESTClientForGVK(gvk, false, false, r.config, serializer.NewCodecFactory(r.scheme), r.http)
	if err != nil {
		return fmt.Errorf("make a client: %w", err)
	}
	options := &metav1.ListOptions{Limit: pageSize, Continue: token}
	answer, err := api.Get().Resource(mapping.Resource.Resource).VersionedParams(options, runtime.NewParameterCodec(r.scheme)).Stream(ctx)
	if err != nil {
		return err //nolint:wrapcheck // the lister says which list
	}
	defer answer.Close() //nolint:errcheck // it was read
	into.Reset()
	if _, err := into.ReadFrom(answer); err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	return nil
}
