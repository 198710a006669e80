package agent

import (
	"testing"
	"time"
)

func TestPause(t *testing.T) {
	t.Parallel()
	now := time.Now()
	a := newLoop(5 * time.Minute)
	a.now = func() time.Time { return now }
	failing, fine := outcome{retry: true}, outcome{}
	if d := a.pause(failing); d != soon {
		t.Errorf("first: %s", d)
	}
	now = now.Add(20 * time.Second)
	if d := a.pause(failing); d != 10*time.Second {
		t.Errorf("after 20 s: %s", d)
	}
	now = now.Add(time.Hour)
	if d := a.pause(failing); d != later {
		t.Errorf("after an hour: %s", d)
	}
	if d := a.pause(fine); d != 150*time.Second {
		t.Errorf("fine: %s", d)
	}
	if d := a.pause(failing); d != soon {
		t.Errorf("again: %s", d)
	}
	if d := a.pause(outcome{problems: true}); d != later {
		t.Errorf("something to say: %s", d)
	}
	if d := a.pause(failing); d != soon {
		t.Errorf("and again: %s", d)
	}
	now = now.Add(time.Hour)
	failing.generation = 7
	if d := a.pause(failing); d != soon {
		t.Errorf("a new layout: %s", d)
	}
	if d := a.pause(outcome{again: true, retry: true}); d != 0 {
		t.Errorf("containerd was restarted: %s", d)
	}
}
