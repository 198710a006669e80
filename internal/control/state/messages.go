package state

import (
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// messagePause: if only the text of a condition has changed, wait this long before
// storing it. Otherwise every node's report would be a write.
const messagePause = 2 * time.Second

// SettleMessages keeps the old texts if only texts changed and the state was written
// a moment ago. It returns when to look again. A clock that was set back does not make
// a moment of an hour.
func (s *Store) SettleMessages(before Stored, doc *Document, now time.Time) time.Duration {
	if wait := messagePause - now.Sub(s.written).Abs(); wait > 0 && onlyMessages(before.Document, *doc) {
		doc.Conditions = before.Conditions
		return wait
	}
	return 0
}

// onlyMessages reports whether two documents differ in messages of conditions and
// in nothing else.
func onlyMessages(before, after Document) bool {
	same := slices.EqualFunc(before.Conditions, after.Conditions, func(a, b metav1.Condition) bool {
		return a.Type == b.Type && a.Status == b.Status && a.Reason == b.Reason
	})
	if !same || slices.EqualFunc(before.Conditions, after.Conditions, func(a, b metav1.Condition) bool { return a.Message == b.Message }) {
		return false
	}
	after.Conditions = before.Conditions
	a, errA := before.Encode()
	b, errB := after.Encode()
	return errA == nil && errB == nil && string(a) == string(b)
}
