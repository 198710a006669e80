//go:build brokenprotocol

package main

import (
	"flag"

	"github.com/d8-registry/registry/internal/datapath/fetch"
	"github.com/d8-registry/registry/internal/node/serve"
)

// registerProtocol adds --protocol, with which pulls fail while their store does. The demo builds this
// program for BREAK=no-fall-through.
func registerProtocol(flags *flag.FlagSet, cfg *serve.Config) {
	flags.Func("protocol", "negative control: a promise that is not kept", func(kind string) (err error) {
		cfg.Promises, err = fetch.Broken(kind)
		return err
	})
}
