package docs_test

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/d8-registry/registry/internal/control/settings"
)

// settingsRows are the rows of the table under a heading of settings.md, by what
// is in their first cell.
func settingsRows(t *testing.T, heading string) map[string][]string {
	t.Helper()
	_, part, found := strings.Cut(read(t, "settings.md"), "\n## "+heading+"\n")
	if !found {
		t.Fatalf("settings.md has no heading %q", heading)
	}
	part, _, _ = strings.Cut(part, "\n## ")
	rows := map[string][]string{}
	for line := range strings.Lines(part) {
		if !strings.HasPrefix(line, "| `") {
			continue
		}
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		name := strings.Trim(cells[0], "`")
		if rows[name] != nil {
			t.Errorf("settings.md has two rows for %s", name)
		}
		rows[name] = cells
	}
	return rows
}

// compareRows demands a row for each setting, and no other.
func compareRows(t *testing.T, heading string, rows map[string][]string, known []string, source string) {
	t.Helper()
	for _, name := range known {
		if rows[name] == nil {
			t.Errorf("%s has the setting %s: add a row \"| `%s` | type | default | limits | example | refused |\" to the table under %q in docs/settings.md", source, name, name, heading)
		}
	}
	for name := range rows {
		if !slices.Contains(known, name) {
			t.Errorf("docs/settings.md has a row for %s under %q, and %s has no such setting: remove the row", name, heading, source)
		}
	}
}

// cell is the value that a cell shows in backticks, as YAML.
func cell(t *testing.T, row []string, i int) any {
	t.Helper()
	if i >= len(row) {
		t.Fatalf("row %s of settings.md has %d cells", row[0], len(row))
	}
	var value any
	if err := yaml.Unmarshal([]byte(strings.Trim(row[i], "`")), &value); err != nil {
		t.Fatalf("settings.md, %s: %v", row[0], err)
	}
	return value
}

// schema is what values.schema.json uses of JSON schema.
type schema struct {
	Ref                  string             `json:"$ref"`
	Type                 string             `json:"type"`
	Properties           map[string]*schema `json:"properties"`
	AdditionalProperties any                `json:"additionalProperties"`
	Items                *schema            `json:"items"`
	Enum                 []any              `json:"enum"`
	Const                any                `json:"const"`
	Pattern              string             `json:"pattern"`
	Minimum              *float64           `json:"minimum"`
	Maximum              *float64           `json:"maximum"`
	MinLength            *float64           `json:"minLength"`
	MaxLength            *float64           `json:"maxLength"`
	AnyOf                []*schema          `json:"anyOf"`
	If                   *schema            `json:"if"`
	Then                 *schema            `json:"then"`
	Not                  *schema            `json:"not"`
	Definitions          map[string]*schema `json:"definitions"`
}

// leaves are the settings below a schema, by path.
func (s *schema) leaves(root *schema, path string, into map[string]*schema) {
	if name, ok := strings.CutPrefix(s.Ref, "#/definitions/"); ok {
		s = root.Definitions[name]
	}
	if len(s.Properties) == 0 {
		into[path] = s
		return
	}
	for name, below := range s.Properties {
		below.leaves(root, strings.TrimPrefix(path+"."+name, "."), into)
	}
}

// typeName is how the page calls a type.
func (s *schema) typeName() string {
	if s.Type == "array" && s.Items != nil {
		return "list of " + s.Items.typeName() + "s"
	}
	return s.Type
}

// limits are the numbers and words that a row must show.
func (s *schema) limits() []string {
	var all []string
	for _, limit := range []*float64{s.Minimum, s.Maximum, s.MaxLength} {
		if limit != nil {
			all = append(all, fmt.Sprintf("%.0f", *limit))
		}
	}
	if s.MinLength != nil {
		all = append(all, "not empty")
	}
	for _, value := range s.Enum {
		all = append(all, fmt.Sprintf("`%v`", value))
	}
	return all
}

// accepts reports whether a value is allowed.
func (s *schema) accepts(v any) bool {
	text, isText := v.(string)
	number, isNumber := v.(float64)
	list, isList := v.([]any)
	_, isObject := v.(map[string]any)
	_, isBool := v.(bool)
	types := map[string]bool{"": true, "string": isText, "integer": isNumber && number == float64(int64(number)), "array": isList, "object": isObject, "boolean": isBool}
	within := func(n float64, low, high *float64) bool {
		return (low == nil || n >= *low) && (high == nil || n <= *high)
	}
	switch {
	case !types[s.Type], s.Enum != nil && !slices.Contains(s.Enum, v), s.Const != nil && s.Const != v,
		isText && s.Pattern != "" && !regexp.MustCompile(s.Pattern).MatchString(text),
		isText && !within(float64(len([]rune(text))), s.MinLength, s.MaxLength), isNumber && !within(number, s.Minimum, s.Maximum),
		len(s.AnyOf) > 0 && !slices.ContainsFunc(s.AnyOf, func(one *schema) bool { return one.accepts(v) }),
		s.Not != nil && s.Not.accepts(v), s.If != nil && s.If.accepts(v) && s.Then != nil && !s.Then.accepts(v):
		return false
	}
	return s.Items == nil || !slices.ContainsFunc(list, func(one any) bool { return !s.Items.accepts(one) })
}

// The chart's values and their limits are on the page: a value without a row is
// one that nobody finds.
func TestSettingsListsTheChartsValues(t *testing.T) {
	t.Parallel()
	const heading, source = "Values of the chart", "charts/registry/values.schema.json"
	var root schema
	if err := json.Unmarshal([]byte(read(t, "../"+source)), &root); err != nil {
		t.Fatal(err)
	}
	var values map[string]any
	if err := yaml.Unmarshal([]byte(read(t, "../charts/registry/values.yaml")), &values); err != nil {
		t.Fatal(err)
	}
	leaves := map[string]*schema{}
	root.leaves(&root, "", leaves)
	delete(leaves, "global") // Helm's
	rows := settingsRows(t, heading)
	var known []string
	for name := range leaves {
		known = append(known, name)
	}
	compareRows(t, heading, rows, known, source)
	for name, s := range leaves {
		row := rows[name]
		if row == nil {
			continue
		}
		if row[1] != s.typeName() {
			t.Errorf("settings.md says that %s is a %s; %s says %s", name, row[1], source, s.typeName())
		}
		if have, want := cell(t, row, 2), valueAt(values, name); toJSON(t, have) != toJSON(t, want) {
			t.Errorf("settings.md says that the default of %s is %v; charts/registry/values.yaml says %v", name, have, want)
		}
		for _, limit := range s.limits() {
			if !strings.Contains(row[3], limit) {
				t.Errorf("settings.md does not say that %s is limited: its row has no %q among the limits", name, limit)
			}
		}
		if example := cell(t, row, 4); !s.accepts(example) {
			t.Errorf("settings.md: the example of %s, %v, is refused by %s", name, example, source)
		}
		if refused := cell(t, row, 5); s.accepts(refused) {
			t.Errorf("settings.md says that %s cannot be %v; %s accepts it", name, refused, source)
		}
	}
}

func valueAt(values map[string]any, path string) any {
	var v any = values
	for name := range strings.SplitSeq(path, ".") {
		section, _ := v.(map[string]any)
		v = section[name]
	}
	return v
}

func toJSON(t *testing.T, v any) string {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// What users write in ModuleConfig deckhouse is on the page, with examples that
// are accepted, and mistakes that are refused.
func TestSettingsListsModuleConfig(t *testing.T) {
	t.Parallel()
	const heading, source = "ModuleConfig deckhouse", "deploy/admission/10-registry-settings.yaml"
	policy := read(t, "../"+source)
	var known []string
	// What both sections have is listed once, as Direct's.
	for prefix, list := range map[string]string{
		"":        `variables.registry.filter\(k, !\(k in \[([^\]]*)\]`,
		"direct.": `name: fields\n\s+expression: "\[([^\]]*)\] \+ \(variables.mode == 'Proxy'`,
		"proxy.":  `name: fields\n\s+expression: "\[[^\]]*\] \+ \(variables.mode == 'Proxy' \? \[([^\]]*)\]`,
	} {
		m := regexp.MustCompile(list).FindStringSubmatch(policy)
		if m == nil {
			t.Fatalf("%s does not list the fields of %q", source, prefix)
		}
		for name := range strings.SplitSeq(m[1], ",") {
			if name = strings.Trim(name, " '"); name != "direct" && name != "proxy" {
				known = append(known, prefix+name)
			}
		}
	}
	rows := settingsRows(t, heading)
	compareRows(t, heading, rows, known, source)
	limit := regexp.MustCompile(`expression: "?(?:>-\s*)?size\(variables\.(\w+)\) <= (\d+)`)
	for _, m := range limit.FindAllStringSubmatch(policy, -1) {
		if row := rows["direct."+m[1]]; row != nil && !strings.Contains(row[3], m[2]) {
			t.Errorf("settings.md does not say that %s is limited to %s", m[1], m[2])
		}
	}
	for name, row := range rows {
		for _, in := range []string{"Direct", "Proxy"} {
			if in == "Direct" && strings.HasPrefix(name, "proxy.") {
				continue
			}
			if problem := problemOf(t, in, name, cell(t, row, 4)); problem != "" {
				t.Errorf("settings.md: the example of %s is refused in %s: %s", name, in, problem)
			}
			if refused := cell(t, row, 5); problemOf(t, in, name, refused) == "" {
				t.Errorf("settings.md says that %s cannot be %v, and it is accepted in %s", name, refused, in)
			}
		}
	}
}

// problemOf is what is wrong with one value beside good ones in a mode; nil is no value.
func problemOf(t *testing.T, mode, name string, value any) string {
	t.Helper()
	fields := map[string]any{"imagesRepo": "registry.example.com/d8"}
	section := map[string]any{"mode": mode, strings.ToLower(mode): fields}
	_, field, below := strings.Cut(name, ".")
	switch {
	case value == nil:
	case below:
		fields[field] = value
	default:
		section[name] = value
	}
	switch {
	case field == "username":
		fields["password"] = "p"
	case field == "password":
		fields["username"] = "u"
	case section["mode"] == "Unmanaged":
		delete(section, strings.ToLower(mode))
	}
	return settings.Parse([]byte(toJSON(t, map[string]any{"registry": section}))).Problem
}
