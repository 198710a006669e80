package reconfigure_test

import (
	"os"
	"testing"

	"github.com/d8-registry/registry/internal/containerd/containerdtest"
)

func TestMain(m *testing.M) { os.Exit(containerdtest.Isolate(m.Run)) }
