package component

import (
	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/control/state"
	"github.com/d8-registry/registry/internal/datapath/regauth"
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
		v.Identity.AddUses(string(pod.GetUID()), pod.GetAnnotations()[v1alpha1.AnnotationOldUse])
		if !pod.Running {
			continue
		}
		running++
		if err != nil || pod.GetAnnotations()[v1alpha1.AnnotationIdentity] != wanted {
			v.Identity.Behind = append(v.Identity.Behind, "Pod "+pod.Name)
		}
	}
	if running == 0 && v.Doc.Desired.Proxy {
		v.Identity.Behind = []string{"Pod " + v1alpha1.DeploymentProxy + "-..."}
	}
}
