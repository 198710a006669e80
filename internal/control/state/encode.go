package state

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"

	"sigs.k8s.io/yaml"

	"github.com/d8-registry/registry/internal/control/switchover"
)

// Decode reads key state of Secret registry-state, in either schema; see fold. The
// error quotes nothing of it: the state holds keys and credentials.
func Decode(data []byte) (Document, error) {
	var doc Document
	if len(data) == 0 {
		return Document{}, errors.New("key state is empty")
	}
	var tree map[string]any
	if yaml.Unmarshal(data, &tree) != nil {
		return Document{}, errors.New("key state is no state document")
	}
	if tree["schema"] == float64(switchover.LargeSchema) {
		var err error
		if tree, err = unfold(tree); err != nil {
			return Document{}, err
		}
		if data, err = json.Marshal(tree); err != nil {
			return Document{}, errors.New("key state is no state document")
		}
	}
	if yaml.Unmarshal(data, &doc) != nil {
		return Document{}, errors.New("key state is no state document")
	}
	if doc.Schema < 1 {
		return Document{}, errors.New("key state names no schema")
	}
	doc.raw = tree
	return doc, nil
}

// Encode keeps the fields of a newer version that this one does not know: it
// may come back.
func (d Document) Encode() ([]byte, error) {
	data, err := json.Marshal(d)
	if err != nil {
		return nil, fmt.Errorf("encode state: %w", err)
	}
	var known map[string]any
	if err := json.Unmarshal(data, &known); err != nil {
		return nil, fmt.Errorf("encode state: %w", err)
	}
	keepUnknown(d.raw, known, reflect.TypeFor[Document]())
	if data, err = json.Marshal(known); err != nil {
		return nil, fmt.Errorf("encode state: %w", err)
	}
	if len(data) > mostPlain {
		known = fold(known)
	}
	out, err := yaml.Marshal(known)
	if err != nil {
		return nil, fmt.Errorf("encode state: %w", err)
	}
	return out, nil
}

// keepUnknown copies from old to fresh what no field of the type stands for,
// in nested structs too.
func keepUnknown(old, fresh map[string]any, t reflect.Type) {
	fields := map[string]reflect.Type{}
	for _, f := range reflect.VisibleFields(t) {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if f.IsExported() && !f.Anonymous && name != "" {
			fields[name] = f.Type
		}
	}
	for key, value := range old {
		field, known := fields[key]
		if !known {
			fresh[key] = value
			continue
		}
		oldMap, okOld := value.(map[string]any)
		freshMap, okFresh := fresh[key].(map[string]any)
		if field.Kind() == reflect.Struct && okOld && okFresh && tagged(field) {
			keepUnknown(oldMap, freshMap, field)
		}
	}
}

// tagged reports whether the type's fields can be told by their tags; types
// that encode themselves are left alone.
func tagged(t reflect.Type) bool {
	return t.NumField() > 0 && t.Field(0).Tag.Get("json") != "" && !t.Implements(reflect.TypeFor[json.Marshaler]())
}
