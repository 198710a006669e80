package controller

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
)

// errRestored ends the process. Its caches are of a cluster that is no more, and
// hear nothing until the new one has made as many changes: informers go on from the
// last version that they saw. The next process begins anew.
var errRestored = errors.New("the cluster was put back to a backup: starting anew")

// versions finds out that etcd was restored: then the versions of the API server go
// back. Lists that name no version are as of now, so nothing else can do that.
type versions struct {
	live, cached client.Reader
	every        time.Duration
	log          *slog.Logger

	highest uint64 // that was seen
}

// NeedLeaderElection implements manager.LeaderElectionRunnable: who waits for the
// lease has caches too.
func (*versions) NeedLeaderElection() bool { return false }

// Start implements manager.Runnable.
func (v *versions) Start(ctx context.Context) error {
	ticker := time.NewTicker(v.every)
	defer ticker.Stop()
	for {
		if err := v.look(ctx); errors.Is(err, errRestored) {
			return err
		} else if err != nil && ctx.Err() == nil {
			v.log.Debug("the version of the cluster is not known", "err", err)
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// look reads the caches first: what they have cannot be newer than what is there
// after that. It asks for the same resource: others may be in an etcd of their own,
// which counts for itself. Only the list's version is wanted, and no object.
func (v *versions) look(ctx context.Context) error {
	var nodes v1alpha1.RegistryNodeList
	if err := v.cached.List(ctx, &nodes, client.UnsafeDisableDeepCopy); err != nil {
		return fmt.Errorf("list cached nodes: %w", err)
	}
	for i := range nodes.Items {
		if version, err := strconv.ParseUint(nodes.Items[i].ResourceVersion, 10, 64); err == nil {
			v.highest = max(v.highest, version)
		}
	}
	list := &metav1.PartialObjectMetadataList{TypeMeta: metav1.TypeMeta{APIVersion: v1alpha1.GroupVersion().String(), Kind: "RegistryNodeList"}}
	err := v.live.List(ctx, list, client.MatchingFields{metav1.ObjectNameField: "none"}, client.Limit(1))
	if err != nil {
		return fmt.Errorf("list: %w", err)
	}
	now, err := strconv.ParseUint(list.ResourceVersion, 10, 64)
	switch {
	case err != nil:
		return fmt.Errorf("read version: %w", err)
	case now < v.highest:
		return fmt.Errorf("version %d after %d: %w", now, v.highest, errRestored)
	}
	v.highest = now
	return nil
}
