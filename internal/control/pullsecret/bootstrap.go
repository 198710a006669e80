package pullsecret

import (
	"context"

	corev1 "k8s.io/api/core/v1"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/control/cluster"
	"github.com/d8-registry/registry/internal/control/state"
	"github.com/d8-registry/registry/internal/upstream"
)

// bootstrap is the pull secret of our own workloads, with every registry whose
// real address one of their templates may name. Of two on one host the first one
// is used.
func bootstrap(d state.Document) map[string][]byte {
	auths := map[string]dockerAuth{}
	for _, u := range d.Desired.Bootstrap {
		for _, key := range upstream.KeysOf(u.Host) {
			if _, taken := auths[key]; !taken {
				auths[key] = newAuth(d.With(u).Credentials)
			}
		}
	}
	return map[string][]byte{corev1.DockerConfigJsonKey: cluster.MustJSON(dockerConfig{Auths: auths})}
}

// ApplyBootstrap writes Secret registry-bootstrap. It must be called before a
// template names another registry.
func (k *Keeper) ApplyBootstrap(ctx context.Context, v *state.View) error {
	if len(v.Doc.Desired.Bootstrap) == 0 {
		return nil
	}
	return k.cluster.PutData(ctx, v.Snapshot, v1alpha1.SecretBootstrap, corev1.SecretTypeDockerConfigJson, bootstrap(v.Doc))
}
