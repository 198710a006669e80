package hostile

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"
	"testing"
	"text/tabwriter"

	"github.com/go-logr/logr"
	ctrl "sigs.k8s.io/controller-runtime"

	"github.com/d8-registry/registry/test/harness/apiserver"
)

// The actors, as docs/threat-model.md names them.
const (
	tenant        = "tenant of a namespace"
	nodeOwner     = "owner of a node"
	registryOwner = "owner of a registry"
	network       = "network in between"
)

// attempt is one thing that an actor tried.
type attempt struct{ actor, tried, got string }

// attempts collects them for the table. The zero value is empty.
type attempts struct {
	mu  sync.Mutex
	all []attempt
}

var noted attempts

// note adds a line to the table. A test calls it last, when what it saw is what
// should be.
func note(t *testing.T, actor, tried, got string) {
	t.Helper()
	if t.Failed() {
		return
	}
	noted.mu.Lock()
	defer noted.mu.Unlock()
	noted.all = append(noted.all, attempt{actor, tried, got})
}

var servers apiserver.Pool

func (a *attempts) print(w io.Writer) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	slices.SortFunc(a.all, func(x, y attempt) int { return cmp.Or(cmp.Compare(x.actor, y.actor), cmp.Compare(x.tried, y.tried)) })
	tab := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(tab, "ACTOR\tTRIED\tGOT")
	for _, one := range a.all {
		_, _ = fmt.Fprintf(tab, "%s\t%s\t%s\n", one.actor, one.tried, one.got)
	}
	if err := tab.Flush(); err != nil {
		return fmt.Errorf("print the table of attempts: %w", err)
	}
	return nil
}

func TestMain(m *testing.M) {
	ctrl.SetLogger(logr.Discard())
	code := servers.Main(m)
	if err := noted.print(os.Stdout); err != nil {
		_, _ = fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}
