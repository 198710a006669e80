//go:build !brokenprotocol

package main

import (
	"flag"

	"github.com/d8-registry/registry/internal/datapath/store"
)

// registerProtocol adds nothing: the program that ships keeps its promises.
func registerProtocol(*flag.FlagSet, *store.Config) {}
