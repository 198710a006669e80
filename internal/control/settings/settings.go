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
	"regexp"
	"slices"
	"time"

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

// proxySettings are a section of Proxy: Direct's, and TTL.
type proxySettings struct {
	sectionSettings
	TTL *string `json:"ttl"`
}

type sectionSettings struct {
	ImagesRepo string `json:"imagesRepo"`
	Scheme     string `json:"scheme"`
	CA         string `json:"ca"`
	License    string `json:"license"`
	Username   string `json:"username"`
	Password   string `json:"password"`
}

// ttlFormat is that of the documentation.
var ttlFormat = regexp.MustCompile(`^(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?$`)

// Disabled is the Problem of a spec while the module is switched off.
const Disabled = "Module registry is disabled by ModuleConfig registry."

// Read reads what users ask for from the API server, past every cache. What is
// wrong with it is in the spec's Problem. Admission has checked the same, but its
// policy can be deleted, and it does not check objects that are older. Proxy says whether
// mode Proxy may be asked for; otherwise it is refused by name.
func Read(ctx context.Context, live client.Reader, proxy bool) (switchover.Spec, error) {
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
	spec := parse(raw, proxy)
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
// for. It refuses mode Proxy by name: not all that it needs is there.
func Parse(settings []byte) switchover.Spec { return parse(settings, false) }

// parse does it, with mode Proxy or without.
func parse(settings []byte, proxy bool) switchover.Spec {
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
	if wrong := section.conflict(proxy); wrong.Problem != "" {
		return wrong
	}
	switch {
	case section.Direct != nil:
		return spec(switchover.Direct, "direct", *section.Direct)
	case present(section.Proxy):
		return parseProxy(section.Proxy)
	}
	return switchover.Spec{Mode: switchover.Unmanaged}
}

// conflict says which sections do not fit the mode; zero when all do.
func (section registrySettings) conflict(proxy bool) switchover.Spec {
	mode := string(switchover.Unmanaged)
	if section.Mode != nil {
		mode = *section.Mode
	}
	isProxy := proxy && mode == string(switchover.ModeProxy)
	isDirect := mode == string(switchover.Direct)
	isUnmanaged := mode == string(switchover.Unmanaged)
	if !isProxy && !isDirect && !isUnmanaged {
		return problem("Unknown registry mode: %q.", mode)
	}
	if text := fits("Direct", "direct", isDirect, section.Direct != nil); text != "" {
		return problem("%s", text)
	}
	if present(section.Unmanaged) {
		if isUnmanaged {
			return problem("registry: section 'unmanaged' is not supported, the parameters of the previously active mode are used.")
		}
		return problem("registry: when mode is not 'Unmanaged', 'unmanaged' section must be omitted.")
	}
	if text := fits("Proxy", "proxy", isProxy, present(section.Proxy)); text != "" {
		return problem("%s", text)
	}
	return switchover.Spec{}
}

// fits says whether a section has to be there or not, and is otherwise.
func fits(mode, section string, wanted, there bool) string {
	switch {
	case wanted && !there:
		return fmt.Sprintf("registry: when mode is '%s', '%s' section must be specified.", mode, section)
	case !wanted && there:
		return fmt.Sprintf("registry: when mode is not '%s', '%s' section must be omitted.", mode, section)
	}
	return ""
}

// unknownField is a field that is not in the schema; empty when there is none.
// Go's decoder ignores such fields, and the case of letters.
func unknownField(registry []byte) string {
	var section struct {
		Direct json.RawMessage `json:"direct"`
	}
	if json.Unmarshal(registry, &section) != nil {
		return "direct" // not reached: it was decoded before
	}
	unknown := unknownIn(registry, "mode", "direct", "unmanaged", "proxy")
	if unknown = append(unknown, unknownIn(section.Direct, accountFields()...)...); len(unknown) > 0 {
		return slices.Min(unknown)
	}
	return ""
}

func accountFields() []string {
	return []string{"imagesRepo", "scheme", "ca", "license", "username", "password"}
}

// unknownIn are the fields of an object beside those that are known.
func unknownIn(object json.RawMessage, known ...string) []string {
	var fields map[string]json.RawMessage
	if len(object) > 0 && json.Unmarshal(object, &fields) != nil {
		return nil // not reached: it was decoded before
	}
	for _, name := range known {
		delete(fields, name)
	}
	return slices.Collect(maps.Keys(fields))
}

func spec(mode switchover.Mode, section string, s sectionSettings) switchover.Spec {
	u, err := upstream.Parse(upstream.Settings(s))
	if err != nil {
		return problem("registry.%s: %v.", section, err) // the error names no secret
	}
	return switchover.Spec{Mode: mode, Upstream: u}
}

// leastTTL keeps what a cache has for less than a rollout from being of any use.
const leastTTL = 5 * time.Minute

func parseProxy(section json.RawMessage) switchover.Spec {
	var s proxySettings
	if err := json.Unmarshal(section, &s); err != nil {
		return problem("spec.settings.registry.proxy: %s.", formatError(err))
	}
	if unknown := unknownIn(section, append(accountFields(), "ttl")...); len(unknown) > 0 {
		return problem("spec.settings.registry: unknown field %q.", slices.Min(unknown))
	}
	asked := spec(switchover.ModeProxy, "proxy", s.sectionSettings)
	if asked.Problem != "" || s.TTL == nil {
		return asked
	}
	if !ttlFormat.MatchString(*s.TTL) || *s.TTL == "" {
		return problem("registry.proxy: invalid ttl format %.40q: expected hours, minutes and seconds, as in '1h30m10s'.", *s.TTL)
	}
	ttl, err := time.ParseDuration(*s.TTL)
	switch {
	case err != nil: // it is longer than a Duration
		return problem("registry.proxy: 'ttl' is too long.")
	case ttl < leastTTL:
		return problem("registry.proxy: 'ttl' should be at least 5 minutes.")
	}
	asked.TTL = ttl
	return asked
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
