package apiserver

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
)

// controllers are those that make, replace and remove what workloads are made
// of. What watches nodes is left out: nobody renews their leases here.
var controllers = []string{ //nolint:gochecknoglobals // a constant list
	"deployment-controller", "replicaset-controller", "statefulset-controller", "daemonset-controller",
	"cronjob-controller", "job-controller", "disruption-controller", "garbage-collector-controller", "namespace-controller",
}

// StartControllers starts a real kube-controller-manager and a real
// kube-scheduler for the API server, until the test ends: Deployments get Pods,
// and Pods nodes. What a kubelet does is left to the test, and the conditions
// of nodes are too.
func StartControllers(tb testing.TB, api *API) {
	tb.Helper()
	dir := tb.TempDir()
	kubeconfig := filepath.Join(dir, "kubeconfig")
	if err := WriteKubeconfig(kubeconfig, api.Config()); err != nil {
		tb.Fatal(err)
	}
	common := []string{
		"--kubeconfig=" + kubeconfig, "--leader-elect=false",
		"--secure-port=0",                              // nobody asks them anything
		"--kube-api-qps=1000", "--kube-api-burst=2000", // a test waits for nothing but the rollouts
	}
	for name, args := range map[string][]string{
		"kube-controller-manager": {
			"--controllers=" + strings.Join(controllers, ","),
			// It makes this folder, by default one of the machine's in /usr.
			"--flex-volume-plugin-dir=" + filepath.Join(dir, "flexvolumes"),
		},
		"kube-scheduler": nil,
	} {
		if err := startPart(tb, dir, name, append(args, common...)); err != nil {
			tb.Fatal(err)
		}
	}
}

// startPart starts a real part until the test ends. If the test failed by then,
// the last words of the part are logged.
func startPart(tb testing.TB, dir, name string, args []string) error {
	tb.Helper()
	binary, err := Binary(name)
	if err != nil {
		return fmt.Errorf("find %s: %w", name, err)
	}
	c, err := startChild(tb.Context(), dir, binary, args)
	if err != nil {
		return err
	}
	tb.Cleanup(func() {
		select {
		case <-c.exited:
			tb.Errorf("%s ended by itself: %s", name, c.lastWords())
		default:
		}
		c.stop()
		if tb.Failed() {
			tb.Log(c.lastWords())
		}
	})
	return nil
}
