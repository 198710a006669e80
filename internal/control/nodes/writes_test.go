package nodes

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/d8-registry/registry/internal/control/state"
)

// TestTheOthersAreWritten: a write that is refused stops no other. Ones that are not
// answered at all end the round.
func TestTheOthersAreWritten(t *testing.T) {
	t.Parallel()
	nodes := corev1.Resource("nodes")
	refused := apierrors.NewForbidden(nodes, "w", errors.New("policy says no"))
	for name, c := range map[string]struct {
		fails   map[int]error
		refuses int
		again   bool // the node is looked at again soon
		err     bool
	}{
		"none fails":                  {},
		"one is refused":              {fails: map[int]error{0: refused}, refuses: 1},
		"one is written by others":    {fails: map[int]error{5: apierrors.NewConflict(nodes, "w", nil)}, again: true},
		"one has gone":                {fails: map[int]error{5: apierrors.NewNotFound(nodes, "w")}},
		"one is not answered":         {fails: map[int]error{7: context.DeadlineExceeded}, refuses: 1},
		"most are refused":            {fails: every(90, refused), refuses: 90},
		"the API server is not there": {fails: every(90, errors.New("connection refused")), err: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var done, running, most atomic.Int32
			var writes []write
			for i := range 100 {
				writes = append(writes, write{fmt.Sprintf("w%02d", i), "mark node", func(context.Context) error {
					for n := running.Add(1); n > most.Load(); {
						most.Store(n)
					}
					defer running.Add(-1)
					if err := c.fails[i]; err != nil {
						return err
					}
					done.Add(1)
					return nil
				}})
			}
			v := &state.View{}
			err := doAll(t.Context(), v, writes)
			if (err != nil) != c.err || most.Load() > atOnce {
				t.Errorf("error %v, %d at once", err, most.Load())
			}
			if c.err {
				return
			}
			if int(done.Load()) != 100-len(c.fails) || len(v.Refused) != c.refuses || (v.Later > 0) != c.again {
				t.Errorf("%d are written, %d refused, looked at again in %v", done.Load(), len(v.Refused), v.Later)
			}
			said := fmt.Sprint(v.RefusedErr())
			for _, want := range map[int][]string{0: {"<nil>"}, 1: {"mark node w"}, 90: {"mark node w00", "policy says no", "the same of 87 more node(s): w03, w04", "w12, ..."}}[c.refuses] {
				if !strings.Contains(said, want) {
					t.Errorf("it says %q, without %q", said, want)
				}
			}
		})
	}
}

func every(n int, err error) map[int]error {
	fails := map[int]error{}
	for i := range n {
		fails[i] = err
	}
	return fails
}
