package controller

import (
	"os"
	"testing"

	"github.com/go-logr/logr"
	ctrl "sigs.k8s.io/controller-runtime"

	"github.com/d8-registry/registry/test/harness/apiserver"
)

var servers apiserver.Pool

func TestMain(m *testing.M) {
	ctrl.SetLogger(logr.Discard())
	os.Exit(servers.Main(m))
}
