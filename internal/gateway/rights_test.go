package gateway

import (
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
)

// allow gives the process, in the test's namespace, the rights that
// deploy/rbac gives it in d8-system, and no more.
func (i *instance) allow() {
	i.t.Helper()
	role := &rbacv1.Role{ObjectMeta: metav1.ObjectMeta{Name: "registry-proxy"}, Rules: []rbacv1.PolicyRule{
		{APIGroups: []string{""}, Resources: []string{"secrets"}, ResourceNames: []string{v1alpha1.SecretProxy}, Verbs: []string{"get", "list", "watch"}},
		{APIGroups: []string{""}, Resources: []string{"pods"}, Verbs: []string{"patch"}},
	}}
	binding := &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "registry-proxy"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: "registry-proxy"},
		Subjects:   []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Name: "registry-proxy", Namespace: i.namespace}},
	}
	if _, err := i.api.RbacV1().Roles(i.namespace).Create(i.t.Context(), role, metav1.CreateOptions{}); err != nil {
		i.t.Fatal(err)
	}
	if _, err := i.api.RbacV1().RoleBindings(i.namespace).Create(i.t.Context(), binding, metav1.CreateOptions{}); err != nil {
		i.t.Fatal(err)
	}
}
