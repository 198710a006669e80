package reconfigure_test

import (
	"os"
	"testing"

	"github.com/d8-registry/registry/test/harness/containerdtest"
)

func TestMain(m *testing.M) { os.Exit(containerdtest.Isolate(m.Run)) }
