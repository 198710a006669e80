// Package settings reads what users ask for in ModuleConfig deckhouse.
//
// It repeats the checks of admission. Start at Read.
package settings

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	"k8s.io/apimachinery/pkg/api/meta"
	"sigs.k8s.io/controller-runtime/pkg/client"

	deckhousev1alpha1 "github.com/d8-registry/registry/api/deckhouse/v1alpha1"
	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/control/cluster"
	"github.com/d8-registry/registry/internal/control/switchover"
	"github.com/d8-registry/registry/internal/upstream"
)

// registrySettings is spec.settings.registry of ModuleConfig deckhouse.
type registrySettings struct {
	Mode      *string          `json:"mode"` // nil means Unmanaged; an empty mode is an error
	Direct    *sectionSettings `json:"direct"`
	Unmanaged json.RawMessage  `json:"unmanaged"`
	Proxy     json.RawMessage  `json:"proxy"`
}

type sectionSettings struct {
	ImagesRepo string `json:"imagesRepo"`
	Scheme     string `json:"scheme"`
	CA         string `json:"ca"`
	License    string `json:"license"`
	Username   string `json:"username"`
	Password   string `json:"password"`
}

// Disabled is the Problem of a spec while the module is switched off.
const Disabled = "Module registry is disabled by ModuleConfig registry."

// Read reads what users ask for from the API server, past every cache. What is
// wrong with it is in the spec's Problem. Admission has checked the same, but its
// policy can be deleted, and it does not check objects that are older.
func Read(ctx context.Context, live client.Reader) (switchover.Spec, error) {
	module, err := moduleConfig(ctx, live, v1alpha1.ModuleName)
	if err != nil {
		return switchover.Spec{}, err
	}
	if module != nil && module.Spec.Enabled != nil && !*module.Spec.Enabled {
		return switchover.Spec{Problem: Disabled}, nil
	}
	config, err := moduleConfig(ctx, live, v1alpha1.ModuleConfigName)
	switch {
	case err != nil:
		return switchover.Spec{}, err
	case config == nil:
		return switchover.Spec{Problem: "ModuleConfig deckhouse does not exist."}, nil
	}
	var raw []byte
	if config.Spec.Settings != nil {
		raw = config.Spec.Settings.Raw
	}
	spec := Parse(raw)
	spec.Generation = config.Generation
	return spec, nil
}

// moduleConfig reads one; nil when there is none, or when the cluster does not know
// the kind.
func moduleConfig(ctx context.Context, live client.Reader, name string) (*deckhousev1alpha1.ModuleConfig, error) {
	config, err := cluster.Get[deckhousev1alpha1.ModuleConfig](ctx, live, client.ObjectKey{Name: name})
	if meta.IsNoMatchError(err) {
		return nil, nil //nolint:nilnil // absent is an answer here
	}
	return config, err
}

// Parse turns spec.settings of ModuleConfig deckhouse, as JSON, into what is asked
// for.
func Parse(settings []byte) switchover.Spec {
	var all struct {
		Registry json.RawMessage `json:"registry"`
	}
	if len(settings) > 0 {
		if err := json.Unmarshal(settings, &all); err != nil {
			return problem("spec.settings is no object.")
		}
	}
	if !present(all.Registry) {
		return problem("there is no section spec.settings.registry.")
	}
	var section registrySettings
	if err := json.Unmarshal(all.Registry, &section); err != nil {
		return problem("spec.settings.registry: %s.", formatError(err))
	}
	if field := unknownField(all.Registry); field != "" {
		return problem("spec.settings.registry: unknown field %q.", field)
	}
	if wrong := section.conflict(); wrong.Problem != "" {
		return wrong
	}
	if section.Direct == nil {
		return switchover.Spec{Mode: switchover.Unmanaged}
	}
	return direct(*section.Direct)
}

// conflict says which sections do not fit the mode; zero when all do.
func (section registrySettings) conflict() switchover.Spec {
	mode := string(switchover.Unmanaged)
	if section.Mode != nil {
		mode = *section.Mode
	}
	switch mode {
	case string(switchover.Unmanaged):
		if section.Direct != nil {
			return problem("registry: when mode is not 'Direct', 'direct' section must be omitted.")
		}
		if present(section.Unmanaged) {
			return problem("registry: section 'unmanaged' is not supported, the parameters of the previously active mode are used.")
		}
	case string(switchover.Direct):
		if section.Direct == nil {
			return problem("registry: when mode is 'Direct', 'direct' section must be specified.")
		}
		if present(section.Unmanaged) {
			return problem("registry: when mode is not 'Unmanaged', 'unmanaged' section must be omitted.")
		}
	default:
		return problem("Unknown registry mode: %q.", mode)
	}
	if present(section.Proxy) {
		return problem("registry: when mode is not 'Proxy', 'proxy' section must be omitted.")
	}
	return switchover.Spec{}
}

// unknownField is a field that is not in the schema; empty when there is none.
// Go's decoder ignores such fields, and the case of letters.
func unknownField(registry []byte) string {
	var section, direct map[string]json.RawMessage
	if json.Unmarshal(registry, &section) != nil || len(section["direct"]) > 0 && json.Unmarshal(section["direct"], &direct) != nil {
		return "direct" // not reached: it was decoded before
	}
	for _, known := range []string{"mode", "direct", "unmanaged", "proxy"} {
		delete(section, known)
	}
	for _, known := range []string{"imagesRepo", "scheme", "ca", "license", "username", "password"} {
		delete(direct, known)
	}
	unknown := slices.Concat(slices.Collect(maps.Keys(section)), slices.Collect(maps.Keys(direct)))
	if len(unknown) == 0 {
		return ""
	}
	return slices.Min(unknown)
}

func direct(s sectionSettings) switchover.Spec {
	u, err := upstream.Parse(upstream.Settings(s))
	if err != nil {
		return problem("registry.direct: %v.", err) // the error names no secret
	}
	return switchover.Spec{Mode: switchover.Direct, Upstream: u}
}

func problem(format string, args ...any) switchover.Spec {
	return switchover.Spec{Problem: "ModuleConfig deckhouse: " + fmt.Sprintf(format, args...)}
}

func present(section json.RawMessage) bool {
	return len(section) > 0 && !bytes.Equal(section, []byte("null"))
}

// formatError says which field has the wrong type. It quotes no value: it could
// be a password.
func formatError(err error) string {
	var wrong *json.UnmarshalTypeError
	if errors.As(err, &wrong) {
		return fmt.Sprintf("%s: a %s is expected", wrong.Field, wrong.Type)
	}
	return err.Error()
}
