// Package deploy is the module's manifests as plain YAML: crds (generated from
// api), admission (ValidatingAdmissionPolicies) and rbac (what each process may
// do, and why). It holds no code; its tests try every rule on a real API
// server. Start at admission/10-registry-settings.yaml.
package deploy
