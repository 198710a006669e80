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
	"sigs.k8s.io/controller-runtime/pkg/client"

	deckhousev1alpha1 "github.com/d8-registry/registry/api/deckhouse/v1alpha1"
	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/control/cluster"
	"github.com/d8-registry/registry/internal/foreign"
)

// Config is how an uninstallation is made.
type Config struct {
	// Kubeconfig is the path of a kubeconfig; empty means the pod's own
	// ServiceAccount.
	Kubeconfig string
	// REST replaces Kubeconfig when set.
	REST *rest.Config
	// Timeout is for the whole run. One that is cut off is finished by the next.
	Timeout time.Duration
	// AgentTimeout is how long to wait for the next agent to clear its folder.
	AgentTimeout time.Duration
}

// RegisterFlags binds the configuration to command line flags and sets the
// defaults.
func (c *Config) RegisterFlags(flags *flag.FlagSet) {
	flags.StringVar(&c.Kubeconfig, "kubeconfig", "", "path of a kubeconfig; empty: the pod's ServiceAccount")
	flags.DurationVar(&c.Timeout, "timeout", 30*time.Minute, "how long it may take; what is not done then is done by the next run")
	flags.DurationVar(&c.AgentTimeout, "patience", 2*time.Minute, "how long to wait for agents that do not clear their folder on the node")
}

// ErrRefused is wrapped by errors that say why the module cannot be uninstalled
// now. Trying again does not help before users have removed the reason.
var ErrRefused = errors.New("refused")

// refused makes such an error. Users read its text.
func refused(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrRefused, fmt.Errorf(format, args...))
}

// owner is the field manager of all changes made here.
const owner = client.FieldOwner("registry-uninstall")

// uninstaller is one run.
type uninstaller struct {
	cfg     Config
	client  client.Client // no cache: each question is asked once or after a change
	dynamic dynamic.Interface
	out     io.Writer
	changed chan struct{} // has a value when something that a step waits for may have changed
	told    string        // what until said last
	// replicas is how many pods the controller had before it was stopped.
	replicas int32
}

// Run uninstalls the module, and writes to out what it does.
func Run(ctx context.Context, cfg Config, out io.Writer) error {
	u, err := connect(cfg, out)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, cfg.Timeout)
	defer cancel()
	// The order is the safety argument: a step removes nothing that a later one
	// needs, nor anything that the controller would make again.
	steps := []func(context.Context) error{
		u.revertNodes,
		u.stopController,
		u.confirm,
		u.cleanupAgents,
		u.unmarkNodes,
		u.removeOwn,
		u.removeShared,
		u.removeState,
	}
	if err := u.retry(ctx, u.mayBegin); err != nil {
		return err
	}
	u.watch(ctx)
	for _, step := range steps {
		if err := u.retry(ctx, step); err != nil {
			return err
		}
	}
	u.say("The module is out of the cluster.")
	return nil
}

func connect(cfg Config, out io.Writer) (*uninstaller, error) {
	config, err := cluster.Connection(cfg.REST, cfg.Kubeconfig, string(owner))
	if err != nil {
		return nil, err
	}
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
	retryMin = time.Second
	retryMax = 15 * time.Second
)

// retry repeats a step while the API server cannot be reached or somebody else
// wrote first.
func (u *uninstaller) retry(ctx context.Context, step func(context.Context) error) error {
	for pause := retryMin; ; pause = min(2*pause, retryMax) {
		err := step(ctx)
		if err == nil || errors.Is(err, ErrRefused) || !temporary(err) || ctx.Err() != nil {
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

// temporary reports whether the same request may succeed later.
func temporary(err error) bool {
	var status apierrors.APIStatus
	if !errors.As(err, &status) {
		return !errors.Is(err, context.DeadlineExceeded)
	}
	return !apierrors.IsForbidden(err) && !apierrors.IsInvalid(err) && !apierrors.IsUnauthorized(err)
}

// say writes one line for the user. What is told may quote objects of others.
func (u *uninstaller) say(format string, args ...any) {
	_, _ = io.WriteString(u.out, foreign.Text(fmt.Sprintf(format, args...), 8<<10)+"\n") // where it cannot be written, the error cannot be either
}
