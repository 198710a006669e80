package gateway

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"strconv"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/datapath/front"
	"github.com/d8-registry/registry/internal/foreign"
	"github.com/d8-registry/registry/internal/layout"
)

const (
	retryFirst = time.Second
	retryMost  = time.Minute
)

// reporter writes annotations on our own Pod. No pull waits for it, so it can fail
// none.
type reporter struct {
	client         kubernetes.Interface
	namespace, pod string
	every          time.Duration
	log            *slog.Logger
	usage          *front.Usage
	status         func() front.Status
	changed        chan struct{} // gets a token when the status has changed
	now            func() time.Time
}

// statusChanged makes a report due at once.
func (r *reporter) statusChanged() {
	select {
	case r.changed <- struct{}{}:
	default: // one is waiting already, and will see the newest status
	}
}

// run reports until the context ends: a change of status at once, a use only
// once in r.every, and a report that failed again after a backoff.
func (r *reporter) run(ctx context.Context) {
	var (
		sent  map[string]any
		use   time.Time // when a use was last reported
		due   <-chan time.Time
		retry time.Duration
	)
	r.statusChanged()
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.changed:
		case <-due:
		case <-r.usage.Used:
			if wait := r.every - r.now().Sub(use); wait > 0 || retry > 0 {
				if due == nil {
					due = time.After(wait)
				}
				continue
			}
		}
		due = nil
		if r.usage.Busy() {
			due = time.After(r.every) // a long download sends no other signal
		}
		want := r.annotations()
		if maps.Equal(want, sent) {
			continue
		}
		if err := r.patch(ctx, want); err != nil {
			retry = min(max(2*retry, retryFirst), retryMost)
			due = time.After(retry)
			r.log.Warn("report on our Pod failed", "err", err, "again", retry)
			continue
		}
		if want[v1alpha1.AnnotationLastUse] != sent[v1alpha1.AnnotationLastUse] || want[v1alpha1.AnnotationOldUse] != sent[v1alpha1.AnnotationOldUse] {
			use = r.now()
		}
		sent, retry = want, 0
	}
}

// annotations are all that we report; nil removes one. A generation is reported once
// its target alone was seen to serve. Before the first layout
// this takes back what an earlier process in this Pod claimed to serve. The last
// use that it reported stays until there is a later one.
func (r *reporter) annotations() map[string]any {
	s := r.status()
	want := map[string]any{
		v1alpha1.AnnotationGeneration: nil, v1alpha1.AnnotationVersion: nil,
		v1alpha1.AnnotationMessage: nil, v1alpha1.AnnotationTargetFails: nil, v1alpha1.AnnotationIdentity: nil,
		v1alpha1.AnnotationLayoutSchema: strconv.Itoa(layout.Newest),
	}
	if s.Identity != "" {
		want[v1alpha1.AnnotationIdentity] = s.Identity
	}
	if old := r.usage.Old(); old != "" {
		want[v1alpha1.AnnotationOldUse] = old
	}
	if s.Proven > 0 {
		want[v1alpha1.AnnotationGeneration] = strconv.FormatInt(s.Proven, 10)
	}
	if s.Proven > 0 && s.Proven == s.Generation {
		want[v1alpha1.AnnotationVersion] = s.Version
	}
	if s.TargetFails != "" {
		want[v1alpha1.AnnotationTargetFails] = s.TargetFails
	}
	if s.Problem != nil {
		want[v1alpha1.AnnotationMessage] = foreign.Line(foreign.Stable(s.Problem.Error()), 4*foreign.Sentence)
	}
	if at, clients := r.usage.Latest(); !at.IsZero() {
		want[v1alpha1.AnnotationLastUse] = at.UTC().Format(time.RFC3339)
		want[v1alpha1.AnnotationLastClient] = clients
	}
	return want
}

func (r *reporter) patch(ctx context.Context, annotations map[string]any) error {
	data, err := json.Marshal(map[string]any{"metadata": map[string]any{"annotations": annotations}})
	if err != nil {
		return fmt.Errorf("encode the report: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	_, err = r.client.CoreV1().Pods(r.namespace).Patch(ctx, r.pod, types.MergePatchType, data, metav1.PatchOptions{FieldManager: "registry-proxy"})
	if err != nil {
		return fmt.Errorf("patch pod %s/%s: %w", r.namespace, r.pod, err)
	}
	return nil
}
