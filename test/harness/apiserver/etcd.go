package apiserver

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// storedAtOnce is how many objects one request to etcd carries: it takes 128.
const storedAtOnce = 100

// Store puts objects straight into etcd, as the API server stores them: through it
// 150,000 pods would take many minutes. It then serves them as any others. Nothing is
// checked or defaulted.
func (a *API) Store(ctx context.Context, objects []client.Object) error {
	for len(objects) > 0 {
		n := min(len(objects), storedAtOnce)
		var puts []any
		for _, o := range objects[:n] {
			key, value, err := a.stored(o)
			if err != nil {
				return fmt.Errorf("store %s: %w", o.GetName(), err)
			}
			puts = append(puts, map[string]any{"requestPut": map[string][]byte{"key": []byte(key), "value": value}})
		}
		if err := a.transact(ctx, puts); err != nil {
			return fmt.Errorf("store objects in etcd: %w", err)
		}
		objects = objects[n:]
	}
	return nil
}

// stored is where and how the API server stores an object.
func (a *API) stored(o client.Object) (key string, value []byte, err error) {
	folder := ""
	switch o.(type) {
	case *corev1.Node:
		folder = "minions"
	case *corev1.Pod:
		folder = "pods"
	case *appsv1.ReplicaSet:
		folder = "replicasets"
	case *appsv1.Deployment:
		folder = "deployments"
	case *appsv1.DaemonSet:
		folder = "daemonsets"
	default:
		return "", nil, errors.New("its folder is not known here")
	}
	kinds, _, err := a.scheme.ObjectKinds(o)
	if err != nil {
		return "", nil, err //nolint:wrapcheck // the caller names the object
	}
	o.GetObjectKind().SetGroupVersionKind(kinds[0])
	o.SetResourceVersion("") // etcd's
	var b bytes.Buffer
	err = protobuf.NewSerializer(a.scheme, a.scheme).Encode(o, &b)
	return path.Join("/registry", folder, o.GetNamespace(), o.GetName()), b.Bytes(), err //nolint:wrapcheck // likewise
}

// transact does something in etcd in one transaction.
func (a *API) transact(ctx context.Context, requests []any) error {
	body, err := json.Marshal(map[string]any{"success": requests})
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, a.etcd+"/v3/kv/txn", bytes.NewReader(body))
	if err != nil {
		return err
	}
	resp, err := (&http.Client{Timeout: requestTimeout * 6}).Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	answer, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %.300s", resp.Status, answer)
	}
	return err
}
