package proxy

import (
	"strconv"
	"testing"
	"time"
)

func TestCorruptIsBoundedAndForgotten(t *testing.T) {
	t.Parallel()
	var c corrupt
	now := time.Now()
	for i := range 10 * mostCorrupt {
		c.note(now, strconv.Itoa(i))
	}
	last := strconv.Itoa(10*mostCorrupt - 1)
	if len(c.until) > mostCorrupt || !c.has(now.Add(corruptFor-1), last) || c.has(now.Add(corruptFor), last) || c.has(now, last) {
		t.Errorf("%d are remembered", len(c.until))
	}
}
