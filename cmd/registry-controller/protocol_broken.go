//go:build brokenprotocol

package main

import (
	"flag"

	"github.com/d8-registry/registry/internal/control/controller"
	"github.com/d8-registry/registry/internal/control/switchover"
)

// registerProtocol adds --protocol, with which the controller loses pulls. The
// demo builds this program for BREAK=order and BREAK=final-early, and for STORY=web-page.
func registerProtocol(flags *flag.FlagSet, cfg *controller.Config) {
	flags.Func("protocol", "negative control: a protocol known to be broken", func(kind string) error {
		p, err := switchover.Broken(kind)
		cfg.Protocol = &p
		return err
	})
}
