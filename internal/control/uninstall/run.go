package uninstall

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"time"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/dynamic"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"

	deckhousev1alpha1 "github.com/d8-registry/registry/api/deckhouse/v1alpha1"
	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
)

// Config is how an uninstallation is made.
type Config struct {
	// Kubeconfig is the path of a kubeconfig; empty means the pod's own
	// ServiceAccount.
	Kubeconfig string
	// REST replaces Kubeconfig when set.
	REST *rest.Config
	// Timeout ends it, wherever it is; the next run goes on.
	Timeout time.Duration
	// Patience is how long an agent that says nothing is waited for when all
	// that it has left to do is to clear its own folder.
	Patience time.Duration
}

// RegisterFlags binds the configuration to command line flags and sets the
// defaults.
func (c *Config) RegisterFlags(flags *flag.FlagSet) {
	flags.StringVar(&c.Kubeconfig, "kubeconfig", "", "path of a kubeconfig; empty: the pod's ServiceAccount")
	flags.DurationVar(&c.Timeout, "timeout", 30*time.Minute, "how long it may take; what is not done then is done by the next run")
	flags.DurationVar(&c.Patience, "patience", 2*time.Minute, "how long to wait for agents that do not clear their folder on the node")
}

// ErrRefused is wrapped by errors that say why nothing is, or nothing more can
// be, uninstalled. To try again is of no use before the reason is gone.
var ErrRefused = errors.New("refused")

// refused is such an error; its words are for the user.
func refused(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrRefused, fmt.Errorf(format, args...))
}

// owner is whose changes these are.
const owner = client.FieldOwner("registry-uninstall")

// uninstaller is one run.
type uninstaller struct {
	cfg     Config
	client  client.Client // no cache: each question is asked once or after a change
	dynamic dynamic.Interface
	out     io.Writer
	changed chan struct{} // something that a step may wait for has changed
	told    string
	// replicas are how many controllers there were before they were stopped.
	replicas int32
}

// Run uninstalls the module and tells out about it.
func Run(ctx context.Context, cfg Config, out io.Writer) error {
	u, err := connect(cfg, out)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, cfg.Timeout)
	defer cancel()
	// The order is the safety argument: nothing is taken away that a step
	// before could still need, nor that the controller would make again.
	steps := []func(context.Context) error{
		u.returnNodes,
		u.stopController,
		u.confirm,
		u.dismissAgents,
		u.unmarkNodes,
		u.removeOwn,
		u.removeShared,
		u.removeState,
	}
	if err := u.insist(ctx, u.mayBegin); err != nil {
		return err
	}
	u.follow(ctx)
	for _, step := range steps {
		if err := u.insist(ctx, step); err != nil {
			return err
		}
	}
	u.say("The module is out of the cluster.")
	return nil
}

func connect(cfg Config, out io.Writer) (*uninstaller, error) {
	config := cfg.REST
	if config == nil {
		var err error
		if config, err = clientcmd.BuildConfigFromFlags("", cfg.Kubeconfig); err != nil {
			return nil, fmt.Errorf("read kubeconfig %q: %w", cfg.Kubeconfig, err)
		}
	}
	config = rest.CopyConfig(config)
	config.UserAgent = "registry-uninstall"
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		clientgoscheme.AddToScheme, apiextensionsv1.AddToScheme, deckhousev1alpha1.AddToScheme, v1alpha1.AddToScheme,
	} {
		if err := add(scheme); err != nil {
			return nil, fmt.Errorf("set up types: %w", err)
		}
	}
	c, err := client.New(config, client.Options{Scheme: scheme})
	if err != nil {
		return nil, fmt.Errorf("connect to the API server: %w", err)
	}
	d, err := dynamic.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("connect to the API server: %w", err)
	}
	return &uninstaller{cfg: cfg, client: c, dynamic: d, out: out, changed: make(chan struct{}, 1)}, nil
}

const (
	againMin = time.Second
	againMax = 15 * time.Second
)

// insist does a step again while the API server is away or somebody else wrote
// first. What it refuses for good ends the run.
func (u *uninstaller) insist(ctx context.Context, step func(context.Context) error) error {
	for pause := againMin; ; pause = min(2*pause, againMax) {
		err := step(ctx)
		if err == nil || errors.Is(err, ErrRefused) || !mayPass(err) || ctx.Err() != nil {
			return err
		}
		u.say("Trying again: %v", err)
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return err
		}
	}
}

// mayPass reports whether an error may be over in a moment.
func mayPass(err error) bool {
	var status apierrors.APIStatus
	if !errors.As(err, &status) {
		return !errors.Is(err, context.DeadlineExceeded)
	}
	return !apierrors.IsForbidden(err) && !apierrors.IsInvalid(err) && !apierrors.IsUnauthorized(err)
}

// say tells the user.
func (u *uninstaller) say(format string, args ...any) {
	_, _ = fmt.Fprintf(u.out, format+"\n", args...) // nobody to tell that telling failed
}
