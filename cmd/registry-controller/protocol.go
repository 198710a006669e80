//go:build !brokenprotocol

package main

import (
	"flag"

	"github.com/d8-registry/registry/internal/control/controller"
)

// registerProtocol adds nothing: the program that ships knows one protocol.
func registerProtocol(*flag.FlagSet, *controller.Config) {}
