// Command registry-controller runs the switch, see internal/control/controller; with the
// argument uninstall it takes the module out of the cluster instead, see
// internal/control/uninstall; with credentials it tries the credential providers.
package main

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/go-logr/logr"
	ctrl "sigs.k8s.io/controller-runtime"

	"github.com/d8-registry/registry/internal/control/controller"
	"github.com/d8-registry/registry/internal/control/credprovider"
	"github.com/d8-registry/registry/internal/control/uninstall"
	"github.com/d8-registry/registry/internal/foreign"
	"github.com/d8-registry/registry/internal/memory"
)

const help = `usage: registry-controller [flags]
       registry-controller uninstall [flags]
       registry-controller credentials [flags] IMAGES_REPO

Without a command it follows ModuleConfig deckhouse and carries out switches.
uninstall takes the module out of the cluster, from mode Unmanaged only; helm
uninstall runs it in Pod registry-uninstall. credentials asks the credential
providers for a registry, and shows what they say, without the password.

`

const uninstallHelp = `usage: registry-controller uninstall [flags]

Refuses, and changes nothing, unless the cluster is in Unmanaged and Ready. Then
nodes go back to the legacy format, agents clear their folders, and what the
module made is removed. A run that was cut off is finished by the next. Exit
status: 0 done, 1 not done, 2 called wrongly.

`

// collectAt is how far the heap may grow between two collections. Nearly all of it are
// the caches, 150 MiB in a cluster of 150,000 Pods, which stay; docs/scale.md shows
// what is won, and the processor time that it takes.
const collectAt = 20

func main() {
	memory.CollectAt(collectAt)
	if err := memory.Heed(); err != nil {
		fmt.Fprintln(os.Stderr, "registry-controller: the memory limit is not heeded:", err)
	}
	os.Exit(run())
}

func run() int {
	if len(os.Args) > 1 && os.Args[1] == "uninstall" {
		return runUninstall(os.Args[2:])
	}
	if len(os.Args) > 1 && os.Args[1] == "credentials" {
		return runCredentials(os.Args[2:])
	}
	cfg := controller.Config{}
	// A set of our own: controller-runtime puts flags into the common one.
	flags := flag.NewFlagSet(os.Args[0], flag.ExitOnError)
	cfg.RegisterFlags(flags)
	registerProtocol(flags, &cfg)
	flags.Usage = func() {
		fmt.Fprint(os.Stderr, help)
		flags.PrintDefaults()
	}
	_ = flags.Parse(os.Args[1:]) // it exits on errors
	if flags.NArg() > 0 {
		fmt.Fprintf(os.Stderr, "registry-controller: argument %q: no argument is known but uninstall and credentials, as the first\n", flags.Arg(0))
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	log := foreign.NewLog(os.Stderr, slog.LevelInfo)
	ctrl.SetLogger(logr.FromSlogHandler(log.Handler())) // what the libraries say
	if err := controller.Run(ctx, cfg, log); err != nil {
		log.Error("controller stopped", "err", err)
		return 1
	}
	return 0
}

// runCredentials is for people who look why there are no credentials. Its defaults are
// where the chart puts things.
func runCredentials(args []string) int {
	flags := flag.NewFlagSet(os.Args[0]+" credentials", flag.ExitOnError)
	file := flags.String("image-credential-provider-config", "/etc/registry/credential-providers/config.yaml", "file of kind CredentialProviderConfig")
	folder := flags.String("image-credential-provider-bin-dir", "/opt/credential-providers", "folder with the plugins that it names")
	_ = flags.Parse(args) // it exits on errors
	if flags.NArg() != 1 {
		fmt.Fprintln(os.Stderr, "registry-controller credentials: expected host/path of a registry, as in imagesRepo")
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	providers, err := credprovider.Load(*file, *folder)
	if err == nil {
		var told string
		told, err = credprovider.Diagnose(ctx, providers, flags.Arg(0))
		fmt.Print(told)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "registry-controller credentials:", err)
		return 1
	}
	return 0
}

// runUninstall tells people what it does, in sentences and not as a log.
func runUninstall(args []string) int {
	cfg := uninstall.Config{}
	flags := flag.NewFlagSet(os.Args[0]+" uninstall", flag.ExitOnError)
	cfg.RegisterFlags(flags)
	flags.Usage = func() {
		fmt.Fprint(os.Stderr, uninstallHelp)
		flags.PrintDefaults()
	}
	_ = flags.Parse(args) // it exits on errors
	if flags.NArg() > 0 {
		fmt.Fprintf(os.Stderr, "registry-controller uninstall: argument %q: only flags are known\n", flags.Arg(0))
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctrl.SetLogger(logr.Discard())
	if err := uninstall.Run(ctx, cfg, os.Stdout); err != nil {
		fmt.Fprintf(os.Stderr, "The module is not uninstalled: %v.\n", err)
		return 1
	}
	return 0
}
