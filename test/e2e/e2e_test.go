package e2e

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/go-logr/logr"
	ctrllog "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/d8-registry/registry/test/harness/kube"
	"github.com/d8-registry/registry/test/harness/machine"
)

// registries are the platform's two, and the two that the documents' examples
// name.
func registries() []machine.RegistryOptions {
	users := map[string]string{"username": "password"}
	return []machine.RegistryOptions{
		kube.RegistryA(), kube.RegistryB(),
		{Host: "registry.deckhouse.ru", Path: "registry/path", Users: users},
		{Host: "registry.io", Path: "registry/path", Users: users},
	}
}

// TestE2E tells the whole story, with E2E=1. UNTIL=step ends it there, KEEP=1
// leaves the cluster running until Ctrl-C, KEEP_FILES=1 leaves its logs. BREAK=1
// is the negative control: pulls fail, and the test passes if the story says so.
func TestE2E(t *testing.T) {
	if os.Getenv("E2E") == "" {
		t.Skip("E2E=1 tells the documents as a story on a whole cluster; it takes both cores for half an hour: make e2e")
	}
	b, err := machine.FindBinaries(root + "/.parts/bin")
	if err != nil {
		t.Fatal(err)
	}
	if missing := kube.Missing(b); len(missing) > 0 {
		t.Fatalf("this machine cannot run it; missing: %q", missing)
	}
	ctx, stop := interrupted(t)
	defer stop()
	r, err := machine.NewRun(root+"/.demo", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(os.Getenv("KEEP_FILES") != ""); err != nil {
			t.Errorf("clean up: %v", err)
		}
	})
	logFile, err := os.OpenFile(r.Path("logs", "story.log"), os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.NewTextHandler(logFile, nil))
	ctrllog.SetLogger(logr.FromSlogHandler(log.Handler()))
	out := &screen{w: os.Stdout, began: time.Now()}
	out.title("run %s", r.ID)
	cluster, err := kube.Start(ctx, r, kube.Options{Binaries: b, Source: sourceFolder(t), Registries: registries()}, log)
	if err != nil {
		t.Fatal(err)
	}
	s, err := newStory(out, log, cluster)
	if err != nil {
		t.Fatal(err)
	}
	last := os.Getenv("UNTIL")
	if s.breaks = os.Getenv("BREAK") != ""; s.breaks {
		last = "platform"
	}
	err = s.tell(ctx, last)
	if os.Getenv("KEEP") != "" {
		s.keep(ctx)
	}
	switch {
	case s.breaks && !errors.Is(err, errBroken):
		t.Errorf("with pulls that fail the story ends with %v, want %v", err, errBroken)
	case err != nil && !s.breaks:
		t.Error(err)
	}
}

// sourceFolder is the root of the repository.
func sourceFolder(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs(root)
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// interrupted ends with a signal: the cluster is cleaned up whatever happens.
func interrupted(t *testing.T) (context.Context, context.CancelFunc) {
	t.Helper()
	return signal.NotifyContext(t.Context(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
}
