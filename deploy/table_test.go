package deploy

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/runtime"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/test/harness/apiserver"
)

// A right is one thing that one account may do: account, where, group,
// resource, name, verb.
type right [6]string

func (r right) String() string {
	return fmt.Sprintf("%s may %s %s/%s %s in %s", r[0], r[5], r[2], r[3], r[4], r[1])
}

// spread adds every right of a rule.
func spread(into map[right]bool, account, where string, groups, resources, names, verbs []string) {
	if len(names) == 0 {
		names = []string{"*"}
	}
	for _, group := range groups {
		if group == "" {
			group = "core"
		}
		for _, resource := range resources {
			for _, name := range names {
				for _, verb := range verbs {
					into[right{account, where, group, resource, name, verb}] = true
				}
			}
		}
	}
}

// granted are the rights that deploy/rbac gives.
func granted(t *testing.T) map[right]bool {
	t.Helper()
	objects, err := apiserver.ReadManifests("rbac")
	if err != nil {
		t.Fatal(err)
	}
	rules := map[string][]rbacv1.PolicyRule{}
	all := map[right]bool{}
	for _, o := range objects {
		if o.GetKind() == "Role" || o.GetKind() == "ClusterRole" {
			var role rbacv1.Role
			if err := runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(o.Object, &role, true); err != nil {
				t.Fatal(err)
			}
			rules[o.GetKind()+o.GetNamespace()+o.GetName()] = role.Rules
		}
	}
	for _, o := range objects {
		if o.GetKind() != "RoleBinding" && o.GetKind() != "ClusterRoleBinding" {
			continue
		}
		var binding rbacv1.RoleBinding
		if err := runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(o.Object, &binding, true); err != nil {
			t.Fatal(err)
		}
		bound, ok := rules[binding.RoleRef.Kind+o.GetNamespace()+binding.RoleRef.Name]
		if o.GetName() == v1alpha1.RoleStore && len(binding.Subjects) == 0 { // whom the controller binds, while there are stores to be
			binding.Subjects = []rbacv1.Subject{{Kind: "ServiceAccount", Namespace: "d8-system", Name: v1alpha1.DaemonSetAgent}}
		}
		if !ok || len(binding.Subjects) != 1 || binding.Subjects[0].Kind != "ServiceAccount" || binding.Subjects[0].Namespace != "d8-system" {
			t.Fatalf("%s %s: %v to %v", o.GetKind(), o.GetName(), binding.RoleRef, binding.Subjects)
		}
		where := o.GetNamespace()
		if where == "" {
			where = "cluster"
		}
		for _, rule := range bound {
			if len(rule.NonResourceURLs) > 0 {
				t.Errorf("%s: paths %v", o.GetName(), rule.NonResourceURLs)
			}
			spread(all, binding.Subjects[0].Name, where, rule.APIGroups, rule.Resources, rule.ResourceNames, rule.Verbs)
		}
	}
	return all
}

// documented are the rights of the tables in docs/rights.md, and the policies
// that they name.
func documented(t *testing.T) (all map[right]bool, policies map[string]bool) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("..", "docs", "rights.md"))
	if err != nil {
		t.Fatal(err)
	}
	all, policies = map[right]bool{}, map[string]bool{}
	for _, m := range regexp.MustCompile("policy `([a-z-]+)`").FindAllStringSubmatch(string(data), -1) {
		policies[m[1]] = true
	}
	account := ""
	for line := range strings.Lines(string(data)) {
		if heading, ok := strings.CutPrefix(line, "## "); ok {
			account = strings.TrimSpace(heading)
		}
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		if len(cells) != 7 || !strings.HasPrefix(line, "|") {
			continue
		}
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		if cells[0] == "where" || strings.HasPrefix(cells[0], "--") {
			continue
		}
		if cells[5] == "" {
			t.Errorf("no reason: %s", line)
		}
		words := func(i int) []string { return strings.Split(cells[i], ", ") }
		before := len(all)
		spread(all, account, cells[0], words(1), words(2), words(3), words(4))
		if len(all) == before {
			t.Errorf("said before: %s", line)
		}
	}
	return all, policies
}

// TestEveryRightHasAReason: no rule without a row of docs/rights.md, no row
// without a rule, and every policy that a row relies on exists.
func TestEveryRightHasAReason(t *testing.T) {
	t.Parallel()
	rules := granted(t)
	rows, named := documented(t)
	if len(rules) < 100 {
		t.Errorf("only %d rights were found", len(rules))
	}
	for r := range rules {
		if !rows[r] {
			t.Errorf("docs/rights.md gives no reason why %s", r)
		}
	}
	for r := range rows {
		if !rules[r] {
			t.Errorf("docs/rights.md says what is not so: %s", r)
		}
	}
	objects, err := apiserver.ReadManifests("admission")
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range objects {
		delete(named, o.GetName())
	}
	if len(named) > 0 {
		t.Errorf("docs/rights.md names policies that do not exist: %v", slices.Sorted(maps.Keys(named)))
	}
}

// TestNoRightIsGivenTwice: a wide rule beside a narrow one makes the narrow one
// a lie.
func TestNoRightIsGivenTwice(t *testing.T) {
	t.Parallel()
	rules := granted(t)
	for r := range rules {
		wider := r
		wider[4] = "*"
		if r[4] != "*" && rules[wider] {
			t.Errorf("%s, and it may so all of them", r)
		}
		everywhere := r
		everywhere[1] = "cluster"
		if r[1] != "cluster" && rules[everywhere] && r[2] != "core" {
			t.Errorf("%s, and everywhere", r)
		}
		if slices.Contains(r[:], "") || r[3] == "*" || r[5] == "*" {
			t.Errorf("%s", r)
		}
	}
}
