package memory

import (
	"math"
	"runtime/debug"
	"testing"
)

func TestHeed(t *testing.T) {
	for _, c := range []struct {
		name, container, given string
		want                   int64
		fails                  bool
	}{
		{"a limit of 1 GiB", "1073741824", "", 858993456, false},
		{"no limit", "", "", math.MaxInt64, false},
		{"set by somebody", "1073741824", "500MiB", math.MaxInt64, false},
		{"no number", "1Gi", "", math.MaxInt64, true},
		{"negative", "-1", "", math.MaxInt64, true},
	} {
		debug.SetMemoryLimit(math.MaxInt64)
		t.Setenv(Variable, c.container)
		t.Setenv("GOMEMLIMIT", c.given)
		err := Heed()
		if got := debug.SetMemoryLimit(-1); got != c.want || (err != nil) != c.fails {
			t.Errorf("%s: limit %d, want %d, %v", c.name, got, c.want, err)
		}
	}
	debug.SetMemoryLimit(math.MaxInt64)
}

func TestCollectAt(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(100))
	for given, want := range map[string]int{"": 25, "70": 100} { // Go reads GOGC when it starts
		debug.SetGCPercent(100)
		t.Setenv("GOGC", given)
		CollectAt(25)
		if got := debug.SetGCPercent(100); got != want {
			t.Errorf("GOGC=%q: %d, want %d", given, got, want)
		}
	}
}
