package report_test

import (
	"context"
	"os"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/dynamic"
	"sigs.k8s.io/controller-runtime/pkg/client"

	registryv1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/node/report"
	"github.com/d8-registry/registry/test/harness/apiserver"
)

var server apiserver.Server

func TestMain(m *testing.M) { os.Exit(server.Main(m)) }

// The words of a refusal are the API server's: ask a real one.
func TestAReportGoesWithoutWhatTheClusterDoesNotKnow(t *testing.T) {
	t.Parallel()
	api := server.Start(t)
	own := &registryv1alpha1.RegistryNode{ObjectMeta: metav1.ObjectMeta{Name: "older-crd"}}
	if err := api.Client().Create(t.Context(), own); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = api.Client().Delete(context.WithoutCancel(t.Context()), own) })
	kube, err := dynamic.NewForConfig(api.Config())
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second finds nothing new to say
		err := report.Write(t.Context(), kube, own, map[string]any{
			"generation": int64(7), "future": "x", "containerd": map[string]any{"version": "2.4.2", "future": "x"},
			"scripts": []any{map[string]any{"name": "a", "phase": "Done", "future": map[string]any{"x": "y"}}},
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := api.Client().Get(t.Context(), client.ObjectKeyFromObject(own), own); err != nil {
		t.Fatal(err)
	}
	if s := own.Status; s.Generation != 7 || s.Containerd.Version != "2.4.2" || len(s.Scripts) != 1 || s.Scripts[0].Phase != "Done" {
		t.Errorf("what was reported: %+v", s)
	}
}
