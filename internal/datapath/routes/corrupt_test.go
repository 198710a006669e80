package routes

import (
	"strconv"
	"testing"
	"time"
)

func TestCorruptIsBoundedAndForgotten(t *testing.T) {
	t.Parallel()
	var c Corrupt
	now := time.Now()
	for i := range 10 * mostCorrupt {
		c.Note(now, strconv.Itoa(i))
	}
	last := strconv.Itoa(10*mostCorrupt - 1)
	if len(c.until) > mostCorrupt || !c.Has(now.Add(corruptFor-1), last) || c.Has(now.Add(corruptFor), last) || c.Has(now, last) {
		t.Errorf("%d are remembered", len(c.until))
	}
}
