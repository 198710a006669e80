package switchover

import (
	"strings"
	"testing"
	"time"

	names "github.com/d8-registry/registry/api/registry/v1alpha1"
)

// Two hashes say nothing about an agent that is not there any more.
func TestASilentAgentIsSaidToBeSilent(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 3, 12, 0, 0, 0, time.UTC)
	e := &evaluation{Protocol: Standard(), seen: Observed{Now: now}}
	const silent, hash = "agent silent since 2026-11-03T11:56:59Z", `"old" → `
	for name, c := range map[string]struct {
		heard time.Time
		want  string
	}{
		"without a heartbeat":  {time.Time{}, hash},
		"heard a moment ago":   {now.Add(-time.Second), hash},
		"for three minutes":    {now.Add(-names.SilentAfter), hash},
		"for longer than that": {now.Add(-names.SilentAfter - time.Second), silent},
	} {
		n := Node{Name: "w1", UID: "u", BootID: "b", Heard: c.heard, Report: Report{UID: "u", BootID: "b", Version: "old", Message: "the reason of then"}}
		first := n
		first.Report.Version, first.Report.Preflight = "", PreflightCustom
		if message := e.preflightMessage([]Node{first}, 1); strings.Contains(message, "- w1: "+silent) != (c.want == silent) || strings.Contains(message, "of then") == (c.want == silent) {
			t.Errorf("%s, preflight:\n%s", name, message)
		}
		for step, message := range map[string]string{"rollout": e.rolloutMessage([]Node{n}, 1), "legacy": e.legacyMessage([]Node{n}, 1)} {
			if !strings.Contains(message, "- w1: "+c.want) || strings.Contains(message, "of then") == (c.want == silent) {
				t.Errorf("%s, %s:\n%s", name, step, message)
			}
		}
	}
}
