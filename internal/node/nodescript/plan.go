package nodescript

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	deckhousev1alpha1 "github.com/d8-registry/registry/api/deckhouse/v1alpha1"
	registryv1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
)

// everything in a list of groups or bundles means all of them.
const everything = "*"

// script is what a node needs of one NodeGroupConfiguration.
type script struct {
	name            string
	generation      int64
	weight          int32
	content         string
	groups, bundles []string
}

func readScript(o *unstructured.Unstructured) (script, error) {
	var ngc deckhousev1alpha1.NodeGroupConfiguration
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(o.Object, &ngc); err != nil {
		return script{}, fmt.Errorf("read NodeGroupConfiguration %s: %w", o.GetName(), err)
	}
	return script{
		name: ngc.Name, generation: ngc.Generation, weight: ngc.Spec.Weight, content: ngc.Spec.Content,
		groups: ngc.Spec.NodeGroups, bundles: ngc.Spec.Bundles,
	}, nil
}

// objectName is what the API server takes for a name of such an object.
var objectName = regexp.MustCompile(`^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$`)

// longestName is the longest name that is not cut: a file name has at most 255
// bytes, and weight and ending need some of them.
const longestName = 180

// file is the script's file name, in the order in which scripts run.
func (s script) file() string {
	name := s.name
	if sum := sha256.Sum256([]byte(s.name)); !objectName.MatchString(name) {
		name = hex.EncodeToString(sum[:])
	} else if len(name) > longestName {
		name = name[:longestName] + "-" + hex.EncodeToString(sum[:8])
	}
	return fmt.Sprintf("%03d_%s", s.weight, name)
}

// check says why the script cannot be run at all.
func (s script) check() error {
	if !objectName.MatchString(s.name) {
		return errors.New("its name is not one of a Kubernetes object")
	}
	if at := strings.IndexByte(s.content, 0); at >= 0 {
		return fmt.Errorf("spec.content has a NUL byte in line %d; bash reads text", 1+strings.Count(s.content[:at], "\n"))
	}
	return nil
}

// selector is what decides which scripts a node runs.
type selector struct {
	group   string
	bundles []string
}

func (p selector) selects(s script) bool { return p.inGroup(s) && p.inBundle(s) }

func (p selector) inGroup(s script) bool {
	return slices.Contains(s.groups, everything) || p.group != "" && slices.Contains(s.groups, p.group)
}

func (p selector) inBundle(s script) bool {
	return slices.Contains(s.bundles, everything) ||
		slices.ContainsFunc(p.bundles, func(name string) bool { return slices.Contains(s.bundles, name) })
}

// plan is what is to run on a node, in order.
type plan struct {
	scripts  []script
	checksum string
	warnings []string
}

// makePlan selects and sorts the scripts. The checksum differs if any script or
// their order does.
func makePlan(all []script, here selector) plan {
	var p plan
	var groups []string
	for _, s := range all {
		if here.selects(s) {
			p.scripts = append(p.scripts, s)
		} else if here.group == "" && here.inBundle(s) {
			groups = append(groups, s.groups...)
		}
	}
	if len(groups) > 0 {
		slices.Sort(groups)
		p.warnings = append(p.warnings, fmt.Sprintf("the Node has no label %s (forgotten?): scripts for node groups %s do not run on it",
			registryv1alpha1.LabelNodeGroup, strings.Join(slices.Compact(groups), ", ")))
	}
	slices.SortFunc(p.scripts, func(a, b script) int {
		return cmp.Or(cmp.Compare(a.weight, b.weight), cmp.Compare(a.name, b.name))
	})
	parts := []string{string(library)}
	for _, s := range p.scripts {
		parts = append(parts, s.file(), s.name, s.content)
	}
	hash := sha256.New()
	for _, part := range parts {
		_ = binary.Write(hash, binary.BigEndian, int64(len(part))) // a hash takes everything
		hash.Write([]byte(part))
	}
	p.checksum = hex.EncodeToString(hash.Sum(nil))
	return p
}
