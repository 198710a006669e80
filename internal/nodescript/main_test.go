package nodescript

import (
	"os"
	"testing"

	"github.com/d8-registry/registry/internal/apitest"
)

var server apitest.Server

func TestMain(m *testing.M) { os.Exit(server.Main(m)) }
