package restore

import (
	"context"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/node/handoff"
	"github.com/d8-registry/registry/internal/node/hostsdir"
	"github.com/d8-registry/registry/internal/node/report"
	"github.com/d8-registry/registry/internal/node/serve"
	"github.com/d8-registry/registry/test/harness/installation"
	"github.com/d8-registry/registry/test/harness/loopback"
)

// startAgent runs the agent of a node until the test ends.
func startAgent(t *testing.T, node string, config *rest.Config, in *installation.Cluster) *agent {
	t.Helper()
	kube, err := dynamic.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	a := &agent{
		address: loopback.Address(t), wake: make(chan struct{}, 1),
		reporter: report.New(report.Options{Kube: kube, Node: node, Identity: report.Identity{BootID: installation.BootID(node), AgentVersion: "test"}, Log: in.Log()}),
	}
	dir := t.TempDir()
	a.state = handoff.Existing(dir)
	t.Cleanup(func() { // before the cluster looks at its log
		token, err := a.state.Token()
		if err != nil {
			t.Error(err)
		}
		in.Hide(token)
	})
	installation.Background(t, func(ctx context.Context) error {
		group, ctx := errgroup.WithContext(ctx)
		group.Go(func() error {
			return serve.Run(ctx, serve.Config{Listen: a.address, StateDir: dir, Kube: config, Namespace: v1alpha1.Namespace, Secret: v1alpha1.SecretAgent}, in.Log())
		})
		group.Go(func() error { a.reporter.Follow(ctx, a.again); return nil })
		group.Go(func() error { a.work(ctx); return nil })
		return group.Wait()
	})
	return a
}

// agent has the real serving half, and the reporter of the other.
type agent struct {
	state    handoff.StateDir
	address  string
	reporter *report.Reporter
	wake     chan struct{}
	served   handoff.Status
}

func (a *agent) again() {
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

// work reports what is served, as passes do.
func (a *agent) work(ctx context.Context) {
	for ctx.Err() == nil {
		client, err := handoff.NewClient("https://"+a.address, a.state, hostsdir.TokenHeader)
		if err == nil {
			asking, cancel := context.WithTimeout(ctx, time.Second)
			if status, err := client.Wait(asking, handoff.Status{}); err == nil {
				a.served = status
			}
			cancel()
			client.Close()
		}
		v := a.reporter.Begin()
		v.Status.Preflight, v.Status.Legacy = "Ready", a.served.Generation == 0
		if a.served.Problem != "" {
			v.Problemf("%s", a.served.Problem)
		}
		if a.served.Generation > 0 {
			v.Prove(report.LastProved{Generation: a.served.Generation, Version: a.served.Version})
		}
		a.reporter.Finish(ctx, v)
		select {
		case <-a.wake:
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
		}
	}
}
