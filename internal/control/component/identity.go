package component

import (
	"strings"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/control/excerpt"
	"github.com/d8-registry/registry/internal/control/state"
	"github.com/d8-registry/registry/internal/datapath/regauth"
	"github.com/d8-registry/registry/internal/foreign"
)

// observeIdentity reads which of the proxy's pods serve by the users and the
// certificate that are stored, and the last use of passwords that are being replaced.
// A pod that has not started will read what is there then; one that is not Ready may
// be so again before it has heard anything.
func observeIdentity(v *state.View) {
	users, err := Users(v.Doc)
	wanted := regauth.Fingerprint(users, []byte(v.Doc.PKI.Leaf.Cert))
	v.Identity.Behind, v.Identity.Uses = nil, map[string]map[string]string{}
	running := 0
	for pod := range proxyPods(v) {
		addUses(v.Identity.Uses, pod)
		if !pod.Running {
			continue
		}
		running++
		if err != nil || pod.GetAnnotations()[v1alpha1.AnnotationIdentity] != wanted {
			v.Identity.Behind = append(v.Identity.Behind, pod.Name)
		}
	}
	if running == 0 {
		v.Identity.Behind = []string{v1alpha1.DeploymentProxy + "-..."}
	}
}

// addUses adds what a Pod says of old passwords, by user and Pod. The times that it
// tells are of its node's clock, which may be wrong: they are not compared.
func addUses(uses map[string]map[string]string, pod *excerpt.Pod) {
	for use := range strings.SplitSeq(pod.GetAnnotations()[v1alpha1.AnnotationOldUse], ",") {
		name, told, ok := strings.Cut(foreign.Line(use, foreign.Word), " ")
		if !ok {
			continue
		}
		if uses[name] == nil {
			uses[name] = map[string]string{}
		}
		uses[name][string(pod.GetUID())] = told
	}
}
