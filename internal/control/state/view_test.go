package state

import (
	"fmt"
	"slices"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/control/cluster"
	"github.com/d8-registry/registry/internal/control/switchover"
	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/upstream"
)

// with is a view of an empty cluster.
func with(doc Document) *View { return &View{Snapshot: &cluster.Snapshot{}, Doc: doc} }

// waiting is a Document whose switch waits at Final, with a message.
func waiting(message string) Document {
	doc := Document{Switch: 5}
	doc.Generation = 7
	doc.Conditions = []metav1.Condition{
		{Type: v1alpha1.ConditionSwitch, Status: metav1.ConditionTrue},
		{Type: v1alpha1.ConditionFinal, Status: metav1.ConditionFalse, Message: message},
		{Type: v1alpha1.ConditionReady, Status: metav1.ConditionFalse},
	}
	return doc
}

func TestWordsAreNotStoredAtEveryReport(t *testing.T) {
	t.Parallel()
	now := time.Now()
	for name, c := range map[string]struct {
		edit func(*Document)
		ago  time.Duration
		put  bool // off
	}{
		"a message, a moment later":     {func(d *Document) { d.Conditions = waiting("2 of 3").Conditions }, time.Second, true},
		"a message, later":              {func(d *Document) { d.Conditions = waiting("2 of 3").Conditions }, 3 * time.Second, false},
		"a message, the clock set back": {func(d *Document) { d.Conditions = waiting("2 of 3").Conditions }, -time.Hour, false},
		"nothing":                       {func(*Document) {}, time.Second, false},
		"an approval as well": {func(d *Document) {
			d.Conditions = waiting("2 of 3").Conditions
			d.Desired.Restarts = []switchover.Approval{{Node: "a"}}
		}, time.Second, false},
		"a status": {func(d *Document) {
			d.Conditions = waiting("2 of 3").Conditions
			d.Conditions[1].Status = metav1.ConditionTrue
		}, time.Second, false},
	} {
		s, before := NewStore(nil, "", Rotations{}), waiting("1 of 3")
		s.written = now.Add(-c.ago)
		after := waiting("1 of 3")
		c.edit(&after)
		said := after.Conditions[1].Message
		wait := s.SettleMessages(Stored{Document: before}, &after, now)
		if (wait > 0) != c.put {
			t.Errorf("%s: put off for %v", name, wait)
		}
		if got := after.Conditions[1].Message; c.put && got != "1 of 3" || !c.put && got != said {
			t.Errorf("%s: says %q", name, got)
		}
	}
}

// TestKnownNamesLeaveTheDocumentAlone: it is stored afterwards.
func TestKnownNamesLeaveTheDocumentAlone(t *testing.T) {
	t.Parallel()
	for n := range 10 {
		var doc Document
		for i := range n {
			doc.Bases = append(doc.Bases, layout.Name{Host: fmt.Sprintf("%c.io", 'b'+i)}) // grown as a decoder does
		}
		before := slices.Clone(doc.Bases)
		v := with(doc)
		v.Observed.Installation = upstream.Upstream{Host: "a.io", Scheme: upstream.HTTPS}
		if names := v.KnownNames(); len(names) != n+2 {
			t.Errorf("%d names: %v are known", n, names)
		}
		if !slices.Equal(v.Doc.Bases, before) {
			t.Errorf("%d names: the document has %v, and had %v", n, v.Doc.Bases, before)
		}
	}
}
