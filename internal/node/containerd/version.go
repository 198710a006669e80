package containerd

import (
	"strconv"
	"strings"
)

// numbers are the parts of a version: 2, 4, 2 for "v2.4.2", and 1, 6, 20 for
// "1.6.20~ds1". A missing part is 0, a part that is no number is -1.
func numbers(version string) [3]int {
	var out [3]int
	rest := strings.TrimPrefix(version, "v")
	for i := range out {
		var part string
		part, rest, _ = strings.Cut(rest, ".")
		out[i] = digits(part)
	}
	return out
}

func digits(s string) int {
	if s == "" {
		return 0
	}
	if end := strings.IndexFunc(s, func(r rune) bool { return r < '0' || r > '9' }); end >= 0 {
		s = s[:end]
	}
	n, err := strconv.Atoi(s)
	if err != nil {
		return -1
	}
	return n
}

// Older reports whether a version is before the one with the given numbers.
func Older(version string, than ...int) bool {
	have := numbers(version)
	for i, n := range than {
		if have[i] != n {
			return have[i] < n
		}
	}
	return false
}
