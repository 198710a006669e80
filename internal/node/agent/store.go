package agent

import (
	"fmt"
	"log/slog"

	"k8s.io/client-go/dynamic"

	"github.com/d8-registry/registry/internal/node/durable"
	"github.com/d8-registry/registry/internal/node/nodescript"
	"github.com/d8-registry/registry/internal/node/nodeservices"
	"github.com/d8-registry/registry/internal/node/nodestore"
	"github.com/d8-registry/registry/internal/pod"
)

// newStore wires the part that keeps the store of this node.
func newStore(cfg Config, kube dynamic.Interface, host nodescript.Host, a *Agent, log *slog.Logger, wake func()) *nodestore.Part {
	staticPods := cfg.StaticPods
	if staticPods == nil {
		staticPods = func() (string, error) { return nodeservices.StaticPodPath("/proc") }
	}
	return nodestore.New(nodestore.Options{
		Kube: kube, StaticPods: staticPods, Status: fmt.Sprintf("http://127.0.0.1:%d/status", pod.StoreHealth),
		Open: func(folder string) (nodestore.Keeper, func(), error) {
			root, err := durable.OpenDir(host.Root)
			if err != nil {
				return nil, nil, fmt.Errorf("open the host's files: %w", err)
			}
			return nodeservices.New(root, folder), func() { _ = root.Close() }, nil
		},
		Place: a.memory.Store, Save: a.memory.saveStore, Own: a.report.Latest, Wake: wake, Log: log,
	})
}
