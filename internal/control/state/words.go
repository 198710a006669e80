package state

import (
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// messagePause is between two writes of the state of which the second only words
// a condition otherwise: with every node's report one would change.
const messagePause = 2 * time.Second

// SettleWords keeps the words of before where nothing but words would be
// stored, and that was done a moment ago. It returns when to look again.
func (s *Store) SettleWords(before Stored, doc *Document, now time.Time) time.Duration {
	if wait := s.written.Add(messagePause).Sub(now); wait > 0 && onlyWords(before.Document, *doc) {
		doc.Conditions = before.Conditions
		return wait
	}
	return 0
}

// onlyWords reports whether two documents differ in messages of conditions and
// in nothing else.
func onlyWords(before, after Document) bool {
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
