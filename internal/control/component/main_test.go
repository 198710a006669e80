package component

import (
	"os"
	"testing"

	"github.com/d8-registry/registry/test/harness/apiserver"
)

var server apiserver.Server

func TestMain(m *testing.M) { os.Exit(server.Main(m)) }
