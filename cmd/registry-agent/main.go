// Command registry-agent is the module's part on every node: `serve` routes pulls
// on loopback, `node` points containerd there and reports, and `all` is both in one
// process. `prepare` gives serve its directory before both start. `alive` tells the
// kubelet whether node makes progress. `doctor` looks at a node without changing it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"slices"
	"syscall"

	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/d8-registry/registry/internal/foreign"
	"github.com/d8-registry/registry/internal/memory"
	"github.com/d8-registry/registry/internal/node/agent"
	"github.com/d8-registry/registry/internal/node/doctor"
	"github.com/d8-registry/registry/internal/node/handoff"
	"github.com/d8-registry/registry/internal/node/serve"
	"github.com/d8-registry/registry/internal/node/watchdog"
	"github.com/d8-registry/registry/internal/version"
)

const usage = "usage: registry-agent prepare|serve|node|all|alive|doctor [flags]"

const help = usage + `

  prepare makes the state folder so that serve need not be root
  serve   routes containerd's pulls on loopback
  node    points containerd there, and reports to the cluster
  all     both in one process
  alive   fails if the --alive-file of node was not stamped lately
  doctor  looks at this node without a cluster, and changes nothing

registry-agent COMMAND --help lists the flags of one.
`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if len(os.Args) > 1 && os.Args[1] == "doctor" {
		code := doctor.Command(ctx, os.Args[2:], os.Stdout, os.Stderr)
		stop()
		os.Exit(code)
	}
	if len(os.Args) > 1 && slices.Contains([]string{"-h", "-help", "--help", "help"}, os.Args[1]) {
		fmt.Print(help)
		return
	}
	err := run(ctx, os.Args[1:], os.Stderr)
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "registry-agent:", err)
		os.Exit(1) //nolint:gocritic // the context's work is over
	}
}

func run(ctx context.Context, args []string, stderr io.Writer) error {
	if len(args) == 0 {
		return errors.New("no command; " + usage)
	}
	var s serve.Config
	var n agent.Config
	flags := flag.NewFlagSet("registry-agent "+args[0], flag.ContinueOnError)
	flags.SetOutput(stderr)
	kubeconfig := flags.String("kubeconfig", os.Getenv("KUBECONFIG"), "`file` to reach the API server with; in a pod, none")
	verbose := flags.Bool("verbose", false, "log every pull, not only those that failed")
	// Both halves know all flags: one list of arguments serves the whole pod.
	s.RegisterFlags(flags)
	registerProtocol(flags, &s)
	n.RegisterFlags(flags)
	flags.StringVar(&n.NodeName, "node-name", os.Getenv("NODE_NAME"), "`name` of the Node")
	flags.StringVar(&n.PodUID, "pod-uid", os.Getenv("POD_UID"), "`UID` of the Pod that this runs in; in a pod, from its environment")
	serveUser := flags.Int("serve-user", defaultServeUser, "`number` of the user and group that serve runs as, for prepare and node")
	if !slices.Contains([]string{"prepare", "serve", "node", "all", "alive"}, args[0]) {
		return fmt.Errorf("command %q is unknown; %s", args[0], usage)
	}
	if err := flags.Parse(args[1:]); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q; %s", flags.Arg(0), usage)
	}
	if args[0] == "prepare" {
		return handoff.Prepare(s.StateDir, *serveUser)
	}
	if args[0] == "node" {
		n.ServeUser = *serveUser
	}
	if args[0] == "alive" {
		return watchdog.Stamped(n.AliveFile)
	}
	kube, err := reach(*kubeconfig)
	if err != nil {
		return fmt.Errorf("configure API access: %w", err)
	}
	s.Kube, n.Kube = kube, kube
	n.Listen, n.StateDir, n.Version = s.Listen, s.StateDir, version.Version()
	s.Name = n.NodeName
	level := slog.LevelInfo
	if *verbose {
		level = slog.LevelDebug
	}
	log := foreign.NewLog(stderr, level)
	if err := memory.Heed(); err != nil {
		log.Warn("the memory limit is not heeded", "err", err)
	}

	group, ctx := errgroup.WithContext(ctx)
	if args[0] != "node" {
		memory.CollectAt(memory.SmallRequests)
		group.Go(func() error { return serve.Run(ctx, s, log.With("part", "serve")) })
	}
	if args[0] != "serve" {
		group.Go(func() error { return agent.Run(ctx, n, log.With("part", "node")) })
	}
	return group.Wait()
}

// defaultServeUser is the image's user.
const defaultServeUser = 64535

// reach is how the API server is reached. There is no limit on requests: an agent
// has two watches and a few reports.
func reach(kubeconfig string) (*rest.Config, error) {
	cfg, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return nil, err
	}
	cfg.UserAgent = "registry-agent/" + version.Version()
	cfg.QPS = -1
	return cfg, nil
}
