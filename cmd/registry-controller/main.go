// Command registry-controller runs the switch: see internal/controller.
package main

import (
	"context"
	"flag"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/go-logr/logr"
	ctrl "sigs.k8s.io/controller-runtime"

	"github.com/d8-registry/registry/internal/controller"
)

func main() {
	os.Exit(run())
}

func run() int {
	cfg := controller.Config{}
	// A set of our own: controller-runtime puts flags into the common one.
	flags := flag.NewFlagSet(os.Args[0], flag.ExitOnError)
	cfg.RegisterFlags(flags)
	flags.Usage = func() { usage(flags) }
	_ = flags.Parse(os.Args[1:]) // it exits on errors
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	log := slog.New(slog.NewJSONHandler(os.Stderr, nil))
	ctrl.SetLogger(logr.FromSlogHandler(log.Handler())) // what the libraries say
	if err := controller.Run(ctx, cfg, log); err != nil {
		log.Error("controller stopped", "err", err)
		return 1
	}
	return 0
}

// usage leaves out --protocol: it makes the controller break its promises, for
// tests that must see them broken.
func usage(flags *flag.FlagSet) {
	shown := flag.NewFlagSet(os.Args[0], flag.ContinueOnError)
	flags.VisitAll(func(f *flag.Flag) {
		if f.Name != "protocol" {
			shown.Var(f.Value, f.Name, f.Usage)
		}
	})
	shown.PrintDefaults()
}
