package report

import (
	"slices"

	registryv1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
)

// Sizes that the API server takes, in characters. It refuses the whole report if
// one text is longer, and then nobody learns what is wrong with the node.
const (
	longestMessage = 8192
	longestWarning = 2048
)

// bounded is a status in which no text is too long.
func bounded(s registryv1alpha1.RegistryNodeStatus) registryv1alpha1.RegistryNodeStatus {
	s.Message = clipped(s.Message, longestMessage)
	if s.Restart != nil {
		restart := *s.Restart
		restart.Message = clipped(restart.Message, longestMessage)
		s.Restart = &restart
	}
	s.Warnings = slices.Clone(s.Warnings)
	for i, w := range s.Warnings {
		s.Warnings[i] = clipped(w, longestWarning)
	}
	return s
}

func clipped(text string, most int) string {
	if runes := []rune(text); len(runes) > most {
		return string(runes[:most-1]) + "…"
	}
	return text
}
