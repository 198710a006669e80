package agent

import (
	"regexp"
	"strings"
)

// undeclared finds the fields that an API server refuses an apply for.
var undeclared = regexp.MustCompile(`(\.status\.\S+): field not declared in schema`)

// element is the part of such a field's path that says which one of a list.
var element = regexp.MustCompile(`\[[^\]]*\]`)

// withoutUnknown takes out of an object the fields that the error says are not
// known, and reports whether that made a difference.
func withoutUnknown(object map[string]any, err error) bool {
	took := false
	for _, match := range undeclared.FindAllStringSubmatch(err.Error(), -1) {
		path := strings.Split(strings.TrimPrefix(element.ReplaceAllString(match[1], ""), "."), ".")
		took = takeOut(object, path) || took
	}
	return took
}

// takeOut removes a field, of a list from all of its elements.
func takeOut(from any, path []string) bool {
	switch from := from.(type) {
	case map[string]any:
		next, found := from[path[0]]
		if !found {
			return false
		}
		if len(path) == 1 {
			delete(from, path[0])
			return true
		}
		return takeOut(next, path[1:])
	case []any:
		took := false
		for _, e := range from {
			took = takeOut(e, path) || took
		}
		return took
	}
	return false
}
