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
	Mode      *string         `json:"mode"` // nil means Unmanaged; an empty mode is an error
	Direct    json.RawMessage `json:"direct"`
	Unmanaged json.RawMessage `json:"unmanaged"`
	Proxy     json.RawMessage `json:"proxy"`
}

// sectionSettings are those of Direct and of Proxy.
type sectionSettings struct {
	ImagesRepo string  `json:"imagesRepo"`
	Scheme     string  `json:"scheme"`
	CA         string  `json:"ca"`
	License    string  `json:"license"`
	Username   string  `json:"username"`
	Password   string  `json:"password"`
	TTL        *string `json:"ttl"` // of Proxy alone
}

const (
	// modes are those that may be asked for, for messages.
	modes = "expected 'Direct', 'Proxy' or 'Unmanaged'"
	// leastTTL keeps what a cache has for less than a rollout from being of any use.
	leastTTL = 5 * time.Minute
	// longestTTL is of the text. The format has much less, but for zeros.
	longestTTL = 64
)

var (
	// ttlFormat is that of the documentation.
	ttlFormat = regexp.MustCompile(`^(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?$`)
	// ttlTooLong are numbers that a policy cannot reckon with: for what does not fit, CEL has
	// an error and no answer. Six digits of hours are a century.
	ttlTooLong = regexp.MustCompile(`\d{7}`)
)

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
	mode := switchover.Unmanaged
	if section.Mode != nil {
		mode = switchover.Mode(*section.Mode)
	}
	switch mode {
	case switchover.Direct, switchover.ModeProxy, switchover.Unmanaged:
	case "Local":
		return problem("registry: mode 'Local' is not supported yet; %s.", modes)
	default:
		return problem("Unknown registry mode: %.40q; %s.", mode, modes)
	}
	if unknown := unknownIn(all.Registry, "mode", "direct", "unmanaged", "proxy"); unknown != "" {
		return problem("spec.settings.registry: unknown field %q.", unknown)
	}
	if wrong := section.conflict(mode); wrong != "" {
		return problem("%s", wrong)
	}
	switch {
	case present(section.Direct):
		return parseSection(mode, "direct", section.Direct)
	case present(section.Proxy):
		return parseSection(mode, "proxy", section.Proxy, "ttl")
	}
	return switchover.Spec{Mode: mode}
}

// conflict says which section does not fit the mode; empty when all do.
func (section registrySettings) conflict(mode switchover.Mode) string {
	if text := fits("Direct", "direct", mode == switchover.Direct, present(section.Direct)); text != "" {
		return text
	}
	if present(section.Unmanaged) {
		if mode == switchover.Unmanaged {
			return "registry: section 'unmanaged' is not supported, the parameters of the previously active mode are used."
		}
		return "registry: when mode is not 'Unmanaged', 'unmanaged' section must be omitted."
	}
	return fits("Proxy", "proxy", mode == switchover.ModeProxy, present(section.Proxy))
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

// unknownIn is the first of an object's fields beside those that are known; empty when there
// is none. Go's decoder ignores such fields, and the case of letters.
func unknownIn(object json.RawMessage, known ...string) string {
	var fields map[string]json.RawMessage
	if json.Unmarshal(object, &fields) != nil {
		return "" // who decodes it says so
	}
	for _, name := range known {
		delete(fields, name)
	}
	if len(fields) == 0 {
		return ""
	}
	return slices.Min(slices.Collect(maps.Keys(fields)))
}

// parseSection reads the section of a mode, which may have more fields than the registry's.
func parseSection(mode switchover.Mode, name string, section json.RawMessage, more ...string) switchover.Spec {
	if unknown := unknownIn(section, append(more, "imagesRepo", "scheme", "ca", "license", "username", "password")...); unknown != "" {
		return problem("registry.%s: unknown field %q.", name, unknown)
	}
	var s sectionSettings
	if err := json.Unmarshal(section, &s); err != nil {
		return problem("registry.%s: %s.", name, formatError(err))
	}
	u, err := upstream.Parse(upstream.Settings{
		ImagesRepo: s.ImagesRepo, Scheme: s.Scheme, CA: s.CA, License: s.License, Username: s.Username, Password: s.Password,
	})
	if err != nil {
		return problem("registry.%s: %v.", name, err) // the error names no secret
	}
	asked := switchover.Spec{Mode: mode, Upstream: u}
	if s.TTL != nil {
		var wrong string
		if asked.TTL, wrong = parseTTL(*s.TTL); wrong != "" {
			return problem("registry.%s: %s", name, wrong)
		}
	}
	return asked
}

// parseTTL reads one, or says what is wrong with it.
func parseTTL(text string) (ttl time.Duration, wrong string) {
	if text == "" || len(text) > longestTTL || !ttlFormat.MatchString(text) {
		return 0, fmt.Sprintf("invalid ttl format %.40q: expected hours, minutes and seconds, as in '1h30m10s'.", text)
	}
	ttl, err := time.ParseDuration(text)
	switch {
	case err != nil || ttlTooLong.MatchString(text):
		return 0, fmt.Sprintf("'ttl' %q is too long: expected at most six digits in each of its numbers.", text)
	case ttl < leastTTL:
		return 0, "'ttl' should be at least 5 minutes."
	}
	return ttl, ""
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
	switch {
	case !errors.As(err, &wrong):
		return err.Error()
	case wrong.Field == "":
		return "an object is expected"
	}
	return fmt.Sprintf("%s: a %s is expected", wrong.Field, wrong.Type)
}
