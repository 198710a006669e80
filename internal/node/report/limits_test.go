package report

import (
	"strings"
	"testing"
	"unicode/utf8"

	registryv1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
)

// What is too long for the API server would keep the whole report from it.
func TestReportIsBounded(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("ä", 10000)
	status := registryv1alpha1.RegistryNodeStatus{
		Message: long, Warnings: []string{"short", long},
		Restart: &registryv1alpha1.RestartStatus{ID: "x", Message: long},
	}
	got := bounded(status)
	for what, c := range map[string]struct {
		text string
		want int
	}{
		"message": {got.Message, 8192}, "restart": {got.Restart.Message, 8192},
		"warning": {got.Warnings[1], 2048}, "short": {got.Warnings[0], 5},
	} {
		if n := utf8.RuneCountInString(c.text); n != c.want || !utf8.ValidString(c.text) {
			t.Errorf("%s has %d characters; expected %d", what, n, c.want)
		}
	}
	if status.Restart.Message != long || status.Warnings[1] != long {
		t.Error("what was given was changed")
	}
}
