package foreign_test

import (
	"reflect"
	"testing"

	"github.com/d8-registry/registry/internal/foreign"
)

func TestFields(t *testing.T) {
	t.Parallel()
	type inner struct{ Name, Message string }
	type kind string
	type outer struct {
		Kind   kind
		Number int64
		Words  []string
		Inner  inner
		List   []inner
		One    *inner
		None   *inner
	}
	hostile := func() inner { return inner{"a\x1bb and more", "one\ntwo"} }
	clean := inner{"a\ufffdb…", "one…"}
	one := hostile()
	v := outer{Kind: "\u202e", Number: 7, Words: []string{"\x00", "ok"}, Inner: hostile(), List: []inner{hostile()}, One: &one}
	foreign.Fields(&v, func(field string) int {
		if field == "Message" {
			return 6
		}
		return 9
	})
	want := outer{Kind: "\ufffd", Number: 7, Words: []string{"\ufffd", "ok"}, Inner: clean, List: []inner{clean}, One: &clean}
	if !reflect.DeepEqual(v, want) {
		t.Errorf("%+v, want %+v", v, want)
	}
}
