package excerpt

import (
	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/foreign"
	"github.com/d8-registry/registry/internal/pki"
)

const (
	// Lists of a report that are longer say nothing more that anybody reads.
	mostReported = 1000
	// mostImage is more than an image reference or a registry has, in bytes: a
	// repository of 255, a tag of 128, a digest.
	mostImage = 1024
)

// reduceReport makes a node's report fit to be shown and kept. Whoever has root on a
// node writes it; the definition of RegistryNode in the cluster may be older than
// its limits.
func reduceReport(rn *v1alpha1.RegistryNode) {
	rn.ManagedFields = nil
	s := &rn.Status
	s.Redirects = s.Redirects[:min(len(s.Redirects), mostReported)]
	s.Upstreams = s.Upstreams[:min(len(s.Upstreams), mostReported)]
	s.Scripts = s.Scripts[:min(len(s.Scripts), mostReported)]
	s.Warnings = s.Warnings[:min(len(s.Warnings), v1alpha1.MostWarnings)]
	request := ""
	if s.Store != nil {
		request = s.Store.Request
	}
	foreign.Fields(s, func(field string) int {
		switch field {
		case "Message", "Warnings":
			return 4 * foreign.Sentence
		case "SandboxImage", "Registry":
			return mostImage
		}
		return foreign.Word
	})
	if s.Store != nil {
		s.Store.Request = pki.CleanRequest(request) // it has several lines
	}
}
