package controller

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/util/workqueue"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/config"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	deckhousev1alpha1 "github.com/d8-registry/registry/api/deckhouse/v1alpha1"
	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/control/cluster"
	"github.com/d8-registry/registry/internal/control/component"
	"github.com/d8-registry/registry/internal/control/credprovider"
	"github.com/d8-registry/registry/internal/control/excerpt"
	"github.com/d8-registry/registry/internal/control/nodes"
	"github.com/d8-registry/registry/internal/control/platform"
	"github.com/d8-registry/registry/internal/control/precheck"
	"github.com/d8-registry/registry/internal/control/pullsecret"
	"github.com/d8-registry/registry/internal/control/scripts"
	"github.com/d8-registry/registry/internal/control/state"
	"github.com/d8-registry/registry/internal/control/stores"
	"github.com/d8-registry/registry/internal/control/switchover"
	"github.com/d8-registry/registry/internal/datapath/judge"
	"github.com/d8-registry/registry/internal/datapath/transport"
	"github.com/d8-registry/registry/internal/upstream"
)

const (
	lease = "registry-controller"
	// retryMax limits the back-off after an error: when a registry works again,
	// the switch goes on soon.
	retryMin = 50 * time.Millisecond
	retryMax = 10 * time.Second
	// versionsEvery is how soon a restore of etcd is noticed.
	versionsEvery = 5 * time.Second
)

// Run runs the controller until ctx ends or leadership is lost.
func Run(ctx context.Context, cfg Config, log *slog.Logger) error {
	whose, err := cfg.validate()
	if err != nil {
		return err
	}
	protocol := switchover.Standard()
	if cfg.Protocol != nil {
		protocol = *cfg.Protocol
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	clock := cluster.NewClock(cfg.Now)
	mgr, err := newManager(cfg, clock, log)
	if err != nil {
		return err
	}
	own := prometheus.NewRegistry()
	shown, err := newIdentity(own)
	if err != nil {
		return err
	}
	woken := make(chan event.GenericEvent, 1)
	r, err := newReconciler(cfg, protocol, whose, mgr, woken, own, log)
	if err != nil {
		return err
	}
	r.cluster.Clock, r.reports.metrics = clock, shown
	if err := r.watch(mgr, woken); err != nil {
		return fmt.Errorf("set up watches: %w", err)
	}
	if err := scripts.Watch(mgr, cfg.Scripts == "off", log); err != nil {
		return fmt.Errorf("set up the status of scripts: %w", err)
	}
	if err := errors.Join(mgr.Add(manager.RunnableFunc(r.images.runner.Run)), mgr.Add(manager.RunnableFunc(r.specs.given.Run))); err != nil {
		return fmt.Errorf("set up image check and credentials: %w", err)
	}
	if err := r.nodes.FollowHeartbeats(ctx, mgr.GetCache()); err != nil {
		return err
	}
	if err := mgr.Add(&versions{live: mgr.GetAPIReader(), cached: mgr.GetClient(), every: versionsEvery, log: log}); err != nil {
		return fmt.Errorf("set up the look at versions: %w", err)
	}
	group, ctx := errgroup.WithContext(ctx)
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	listening := ports{metrics: cfg.MetricsAddress, health: cfg.HealthAddress, profiles: cfg.ProfilesAddress, own: own, ready: synced(mgr.GetCache()), log: log}
	if err := listening.serve(ctx, group); err != nil {
		stop()
		return errors.Join(err, group.Wait())
	}
	group.Go(func() error {
		defer stop() // nobody is to find us healthy after that
		if err := mgr.Start(ctx); err != nil {
			return fmt.Errorf("run controller: %w", err)
		}
		return nil
	})
	return group.Wait()
}

func newManager(cfg Config, clock *cluster.Clock, log *slog.Logger) (ctrl.Manager, error) {
	restConfig, err := cluster.Connection(cfg.REST, cfg.Kubeconfig, lease)
	if err != nil {
		return nil, err
	}
	// The rate of requests is not limited: a pass makes few, and a switch must not
	// wait for them.
	restConfig.QPS = -1
	restConfig.Wrap(clock.Watch)
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, deckhousev1alpha1.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(scheme); err != nil {
			return nil, fmt.Errorf("set up types: %w", err)
		}
	}
	anyName := true // tests run several controllers in a process
	warm := true    // a process that waits for the lease fills its caches
	mgr, err := ctrl.NewManager(restConfig, ctrl.Options{
		Scheme:                        scheme,
		Cache:                         excerpt.CacheOptions(),
		Logger:                        logr.FromSlogHandler(log.Handler()),
		LeaderElection:                cfg.LeaderElect,
		LeaderElectionID:              lease,
		LeaderElectionNamespace:       v1alpha1.Namespace,
		LeaderElectionReleaseOnCancel: true,
		LeaseDuration:                 new(leaseLasts),
		RenewDeadline:                 new(leaseRenewed),
		RetryPeriod:                   new(leaseAsked),
		Metrics:                       metricsserver.Options{BindAddress: "0"}, // see ports
		Controller:                    config.Controller{SkipNameValidation: &anyName, EnableWarmup: &warm},
	})
	if err != nil {
		return nil, fmt.Errorf("connect to the API server: %w", err)
	}
	return mgr, nil
}

// How long a lease lasts, within which time it must be renewed, and how often that is tried: twice
// the times of Kubernetes' own controllers. An API server is slow where etcd's disk is busy, and a
// controller that ends for that has to read the whole cluster again; who waits for the lease of
// one that was killed waits for half a minute.
const (
	leaseLasts   = 30 * time.Second
	leaseRenewed = 20 * time.Second
	leaseAsked   = 4 * time.Second
)

// syncedWithin is the timeout of one readiness probe.
const syncedWithin = 500 * time.Millisecond

// synced reports ready when the caches are filled, also in a process that waits for
// the lease: it can take over at once.
func synced(c interface {
	WaitForCacheSync(ctx context.Context) bool
}) healthz.Checker {
	return func(r *http.Request) error {
		ctx, cancel := context.WithTimeout(r.Context(), syncedWithin)
		defer cancel()
		if !c.WaitForCacheSync(ctx) {
			return errors.New("the cluster is not known yet")
		}
		return nil
	}
}

func newReconciler(cfg Config, protocol switchover.Protocol, whose cluster.Selection, mgr ctrl.Manager, woken chan event.GenericEvent, metrics prometheus.Registerer, log *slog.Logger) (*Reconciler, error) {
	list := component.List(cfg.Config)
	whose.Own = component.Names(list)
	c := &cluster.Client{
		Client: mgr.GetClient(), Live: mgr.GetAPIReader(), Cache: mgr.GetCache(),
		Raw:    cluster.NewRaw(mgr.GetConfig(), mgr.GetHTTPClient(), mgr.GetScheme(), mgr.GetRESTMapper()),
		Events: cluster.Events{Recorder: mgr.GetEventRecorder(v1alpha1.ManagedBy)},
		Whose:  whose,
		Names:  &cluster.KnownNames{},
		Now:    cfg.Now,
		Log:    log,
		Wake: func() {
			select {
			case woken <- event.GenericEvent{Object: moduleReference()}:
			default: // another pass is already asked for
			}
		},
	}
	check := precheck.Checker{Transport: cfg.transport()}
	given, err := cfg.credentials(metrics, check.Open, c, log)
	if err != nil {
		return nil, err
	}
	check.With = given.With
	asked := &images{own: cfg.Image, check: check, runner: precheck.NewRunner(check, cfg.Now, c.Wake, log)}
	keeper := component.NewKeeper(c, cfg.Config, list, func(ctx context.Context, v *state.View, req switchover.CheckRequest) switchover.CheckReport {
		return asked.check.Check(ctx, asked.request(req, v))
	})
	return &Reconciler{
		protocol: protocol,
		specs:    &specs{settings: cfg.Settings, given: given},
		cluster:  c,
		store:    state.NewStore(c, cfg.ClusterDomain, cfg.Rotations),
		nodes:    nodes.NewKeeper(c, protocol),
		secrets:  pullsecret.NewKeeper(c),
		mover:    platform.NewMover(c, cfg.LeaveBroken),
		own: own{keeper, &nodeStores{
			cfg: &cfg, cluster: c, keeper: stores.New(c), pull: keeper.Pull, proved: map[string]int64{},
		}},
		images:  asked,
		reports: &reports{cluster: c},
	}, nil
}

// credentials makes what gets credentials from providers.
func (c *Config) credentials(own prometheus.Registerer, open func(upstream.Upstream) (judge.Registry, error), in *cluster.Client, log *slog.Logger) (*credprovider.Keeper, error) {
	providers, err := credprovider.Load(c.CredentialProviders, c.CredentialPlugins)
	if err != nil {
		return nil, err //nolint:wrapcheck // it names the file
	}
	return credprovider.NewKeeper(credprovider.Config{ //nolint:wrapcheck // it says what it did
		Providers: providers, Own: c.Image, Open: open, Soonest: cmp.Or(c.CredentialsSoonest, credprovider.DefaultSoonest),
		Metrics: own, Now: c.Now, Wake: in.Wake, Log: log,
	})
}

// transport is how the image check reaches upstreams: as agents do, so that it
// proves what they need.
func (c *Config) transport() precheck.Transport {
	if c.Transport != nil {
		return c.Transport
	}
	return func(u upstream.Upstream) (http.RoundTripper, error) { return transport.New(u) }
}

// watch makes every event that matters lead to a pass. There is one key: events
// during a pass lead to one more.
func (r *Reconciler) watch(mgr ctrl.Manager, woken <-chan event.GenericEvent) error {
	one := reconcile.Request{NamespacedName: types.NamespacedName{Name: v1alpha1.ModuleName}}
	paced := newPace(r)
	all := handler.EnqueueRequestsFromMapFunc(func(_ context.Context, o client.Object) []reconcile.Request {
		paced.event()
		if _, edited := o.(*deckhousev1alpha1.ModuleConfig); edited {
			paced.hurry()
		}
		return []reconcile.Request{one}
	})
	images := r.cluster.Names.ImagesMatter()
	limiter := workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](retryMin, retryMax)
	b := ctrl.NewControllerManagedBy(mgr).Named("switch").
		WithOptions(controller.Options{MaxConcurrentReconciles: 1, RateLimiter: limiter}).
		WatchesRawSource(source.Channel(woken, all))
	for object, only := range map[client.Object]predicate.Predicate{
		&deckhousev1alpha1.ModuleConfig{}: predicate.GenerationChangedPredicate{},
		&deckhousev1alpha1.Module{}:       named(v1alpha1.ModuleName),
		&v1alpha1.RegistryNode{}:          predicate.Funcs{},
		&corev1.Secret{}:                  predicate.Funcs{},
		&corev1.ConfigMap{}:               predicate.Funcs{},
		&corev1.Service{}:                 predicate.Funcs{},
		&corev1.Namespace{}:               predicate.Or(predicate.LabelChangedPredicate{}, predicate.AnnotationChangedPredicate{}),
		&corev1.Node{}:                    nodeMatters(),
		&corev1.Pod{}:                     images,
		&appsv1.Deployment{}:              images,
		&appsv1.DaemonSet{}:               images,
		&appsv1.StatefulSet{}:             images,
		&appsv1.ReplicaSet{}:              images,
		&corev1.ReplicationController{}:   images,
		&appsv1.ControllerRevision{}:      images,
		&batchv1.CronJob{}:                images,
		&batchv1.Job{}:                    images,
	} {
		b = b.Watches(object, all, builder.WithPredicates(only))
	}
	return b.Complete(paced) //nolint:wrapcheck // the caller says what was done
}

func named(name string) predicate.Predicate {
	return predicate.NewPredicateFuncs(func(o client.Object) bool { return o.GetName() == name })
}

// nodeMatters lets through what a pass could see of a node: not the heartbeat.
func nodeMatters() predicate.Predicate {
	return predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
		before, ok1 := e.ObjectOld.(*corev1.Node)
		after, ok2 := e.ObjectNew.(*corev1.Node)
		if !ok1 || !ok2 {
			return true
		}
		return cluster.IsReady(before) != cluster.IsReady(after) || before.Spec.Unschedulable != after.Spec.Unschedulable ||
			cluster.HasTaint(before) != cluster.HasTaint(after) || cluster.IsJoining(before) != cluster.IsJoining(after) || before.Status.NodeInfo != after.Status.NodeInfo ||
			!maps.Equal(before.Labels, after.Labels) || !maps.Equal(before.Annotations, after.Annotations)
	}}
}
