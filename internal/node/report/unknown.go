package report

import (
	"regexp"
	"strings"
)

// undeclared finds the fields for which an API server refuses an apply.
var undeclared = regexp.MustCompile(`(\.status\.\S+): field not declared in schema`)

// element is the part of a field's path that names one item of a list.
var element = regexp.MustCompile(`\[[^\]]*\]`)

// withoutUnknown removes the fields that the error calls unknown, and reports
// whether there were any.
func withoutUnknown(object map[string]any, err error) bool {
	took := false
	for _, match := range undeclared.FindAllStringSubmatch(err.Error(), -1) {
		path := strings.Split(strings.TrimPrefix(element.ReplaceAllString(match[1], ""), "."), ".")
		took = takeOut(object, path) || took
	}
	return took
}

// takeOut removes a field; if the path leads into a list, from all of its items.
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
