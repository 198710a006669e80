// Command registry-store is the cache of a control-plane node: see internal/datapath/store.
package main

import (
	"context"
	"flag"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/d8-registry/registry/internal/datapath/store"
	"github.com/d8-registry/registry/internal/foreign"
	"github.com/d8-registry/registry/internal/memory"
)

func main() {
	os.Exit(run())
}

func run() int {
	cfg := store.Config{}
	cfg.RegisterFlags(flag.CommandLine)
	registerProtocol(flag.CommandLine, &cfg)
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	level := slog.LevelInfo
	if cfg.Verbose {
		level = slog.LevelDebug
	}
	log := foreign.NewLog(os.Stderr, level)
	memory.CollectAt(memory.SmallRequests)
	if err := memory.Heed(); err != nil {
		log.Warn("the memory limit is not heeded", "err", err)
	}
	if err := store.Run(ctx, cfg, log); err != nil {
		log.Error("store stopped", "err", err)
		return 1
	}
	return 0
}
