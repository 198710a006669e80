package report

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"

	registryv1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/foreign"
)

// What is too long for the API server would keep the whole report from it. Each
// field that there is, and each that there will be, is cut: test/hostile shows that
// the API server takes it.
func TestReportIsBounded(t *testing.T) {
	t.Parallel()
	var given registryv1alpha1.RegistryNodeStatus
	fill(reflect.ValueOf(&given).Elem())
	got := bounded(given)
	texts := 0
	each(reflect.ValueOf(got), "status", func(field, text string) {
		texts++
		most := registryv1alpha1.MostPath
		if strings.HasSuffix(field, "Message") {
			most = registryv1alpha1.MostMessage
		}
		if text != foreign.Line(text, most) {
			t.Errorf("%s has %d bytes, or is not printable", field, len(text))
		}
	})
	if texts < 3*mostScripts || len(got.Warnings) != registryv1alpha1.MostWarnings {
		t.Errorf("%d texts, %d warnings", texts, len(got.Warnings))
	}
	// etcd takes 1.5 MiB, and names are in it twice.
	if data, err := json.Marshal(got); err != nil || len(data) > 1<<20 {
		t.Errorf("the report has %d bytes (%v)", len(data), err)
	}
	if len(given.Warnings[0]) <= registryv1alpha1.MostPath || len(given.Restart.Message) <= registryv1alpha1.MostMessage {
		t.Error("what was given was changed")
	}
}

// fill puts a text of terminal escapes and line breaks into every string, and many
// items into every list.
func fill(v reflect.Value) {
	switch v.Kind() {
	case reflect.String:
		v.SetString(strings.Repeat("\x1b[2J\n", 2000))
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem())
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1200, 1200))
		for i := range v.Len() {
			fill(v.Index(i))
		}
	case reflect.Struct:
		for i := range v.NumField() {
			fill(v.Field(i))
		}
	default:
	}
}

func each(v reflect.Value, name string, do func(field, text string)) {
	switch v.Kind() {
	case reflect.String:
		do(name, v.String())
	case reflect.Pointer:
		each(v.Elem(), name, do)
	case reflect.Slice:
		for i := range v.Len() {
			each(v.Index(i), fmt.Sprintf("%s[%d]", name, i), do)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			each(v.Field(i), name+"."+v.Type().Field(i).Name, do)
		}
	default:
	}
}
