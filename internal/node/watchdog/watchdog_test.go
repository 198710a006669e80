package watchdog

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestAStepThatHangsIsNoticed(t *testing.T) {
	t.Parallel()
	now := time.Now()
	w := New(func() time.Time { return now })
	check := func(when, want string) {
		t.Helper()
		if err := w.Err(); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", when, err)
		}
	}
	check("before the first step", "")
	w.Do("the pass", func() {
		now = now.Add(Limit)
		check("a slow step", "")
		w.Do("the other loop", func() {})
		now = now.Add(time.Second)
		check("another loop goes on", "the pass has hung for 15m1s")
	})
	now = now.Add(24 * time.Hour)
	check("nothing is to be done", "")
}

func TestStampsAge(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	clock, file := filepath.Join(dir, "uptime"), filepath.Join(dir, "alive")
	at := func(seconds string) {
		t.Helper()
		if err := os.WriteFile(clock, []byte(seconds+" 99.99\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	check := func(when string, alive bool) {
		t.Helper()
		if err := stamped(file, clock); (err == nil) != alive {
			t.Errorf("%s: %v", when, err)
		}
	}
	at("1000.50")
	check("never stamped", false)
	if err := stamp(file, clock); err != nil {
		t.Fatal(err)
	}
	check("at once", true)
	at("1060.40")
	check("a minute later", true)
	at("1061.00")
	check("later than that", false)
	at("3.00")
	check("after a reboot", false)
	if err := stamp(file, clock); err != nil {
		t.Fatal(err)
	}
	check("stamped again", true)
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	check("empty", false)
}

func TestTheKernelsClock(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "alive")
	if err := stamp(file, uptimeFile); err != nil {
		t.Fatal(err)
	}
	if err := Stamped(file); err != nil {
		t.Error(err)
	}
}
