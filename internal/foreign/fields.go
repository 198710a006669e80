package foreign

import "reflect"

// Fields makes a Line of every text below a struct that v points to: in its fields,
// in what they point to and in lists. Most says by a field's name how long it may be.
// Lists and what is pointed to are changed in place.
func Fields(v any, most func(field string) int) {
	fields(reflect.ValueOf(v).Elem(), "", most)
}

func fields(v reflect.Value, name string, most func(field string) int) {
	switch v.Kind() {
	case reflect.String:
		v.SetString(Line(v.String(), most(name)))
	case reflect.Pointer:
		if !v.IsNil() {
			fields(v.Elem(), name, most)
		}
	case reflect.Slice:
		for i := range v.Len() {
			fields(v.Index(i), name, most)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			fields(v.Field(i), v.Type().Field(i).Name, most)
		}
	default: // numbers and the like; a map would not be covered
	}
}
