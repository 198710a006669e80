package report

import (
	registryv1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/foreign"
	"github.com/d8-registry/registry/internal/pki"
)

// What is in lists is many, and all of a report must fit into one object, in which
// the API server keeps the names once more as who wrote them.
const (
	mostNames   = 300
	mostHosts   = 100
	mostScripts = 500
	mostName    = 512
)

// bounded is a status that the API server takes. It refuses the whole report for
// one text that is too long, and then nobody learns what is wrong with the node.
// Much of it others said: registries, containerd, users' files and scripts.
func bounded(s registryv1alpha1.RegistryNodeStatus) registryv1alpha1.RegistryNodeStatus {
	s = *s.DeepCopy()
	request := ""
	if s.Store != nil {
		request = s.Store.Request
	}
	s.Redirects = s.Redirects[:min(len(s.Redirects), mostNames)]
	s.Upstreams = s.Upstreams[:min(len(s.Upstreams), mostHosts)]
	s.Scripts = s.Scripts[:min(len(s.Scripts), mostScripts)]
	s.Warnings = s.Warnings[:min(len(s.Warnings), registryv1alpha1.MostWarnings)]
	foreign.Fields(&s.Redirects, inList)
	foreign.Fields(&s.Upstreams, inList)
	foreign.Fields(&s.Scripts, func(string) int { return registryv1alpha1.MostWord })
	foreign.Fields(&s, longest)
	if s.Store != nil {
		s.Store.Request = pki.CleanRequest(request) // it has several lines
	}
	return s
}

// inList is how long a field of a list's item may be, in bytes.
func inList(field string) int {
	if field == "Message" {
		return registryv1alpha1.MostWord
	}
	return mostName
}

// longest is how long any other field may be.
func longest(field string) int {
	switch field {
	case "Message":
		return registryv1alpha1.MostMessage
	case "Warnings":
		return registryv1alpha1.MostWarning
	case "ID":
		return registryv1alpha1.MostID
	case "Name", "Registry", "SourceDirectory", "EffectiveDirectory", "ConfigFile", "SandboxImage":
		return registryv1alpha1.MostPath
	}
	return registryv1alpha1.MostWord
}
