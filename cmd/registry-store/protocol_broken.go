//go:build brokenprotocol

package main

import (
	"flag"

	"github.com/d8-registry/registry/internal/datapath/store"
)

// registerProtocol adds --protocol, with which a client can have a whole layer of wrong bytes. The demo builds this
// program for BREAK=last-byte.
func registerProtocol(flags *flag.FlagSet, cfg *store.Config) {
	flags.Func("protocol", "negative control: a promise that is not kept", func(kind string) (err error) {
		cfg.Promises, err = store.Broken(kind)
		return err
	})
}
