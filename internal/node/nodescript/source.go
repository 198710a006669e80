package nodescript

import (
	"context"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	deckhousev1alpha1 "github.com/d8-registry/registry/api/deckhouse/v1alpha1"
	"github.com/d8-registry/registry/internal/node/watch"
)

// follow keeps the scripts up to date with the API server. While that does not
// answer, the last ones stay.
func (r *Runner) follow(ctx context.Context) {
	all := watch.All{
		Client:   r.cfg.Client,
		Resource: deckhousev1alpha1.GroupVersion().WithResource("nodegroupconfigurations"),
	}
	all.Run(ctx, r.log, func(objects []*unstructured.Unstructured) {
		var scripts []script
		for _, o := range objects {
			if s, err := readScript(o); err != nil {
				r.log.Error("a script is left out", "err", err)
			} else {
				scripts = append(scripts, s)
			}
		}
		r.learnScripts(scripts)
	})
}
