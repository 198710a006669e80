package handoff

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TestTheTokenBeforeEnds: also if it was set aside while the clock was a year ahead.
func TestTheTokenBeforeEnds(t *testing.T) {
	t.Parallel()
	f, err := Use(t.Context(), filepath.Join(t.TempDir(), "registry-agent"), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	now, ahead := time.Now(), time.Now().AddDate(1, 0, 0)
	if err := f.write(f.servePath(fileBefore), ownerOnly, []byte("before\n")); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(f.servePath(fileBefore), ahead, ahead); err != nil {
		t.Fatal(err)
	}
	if got, err := f.EnsureTokens(now); err != nil || got.Before != "before" || !got.Until.Equal(now.Add(beforeLife)) {
		t.Errorf("good until %v, %v", got.Until, err)
	}
	if got, err := f.EnsureTokens(now.Add(beforeLife + time.Minute)); err != nil || got.Before != "" {
		t.Errorf("a day later %q, %v", got.Before, err)
	}
}
