package credprovider

import (
	"maps"
	"path"
	"slices"
	"strings"
)

// matches reports whether a pattern is about an image, "host[:port]/path", as the
// kubelet reads patterns: as many parts of the host, a star for no more than one of
// them, the same port, and the beginning of the path.
func matches(pattern, image string) bool {
	host, below, _ := strings.Cut(pattern, "/")
	imageHost, imageBelow, _ := strings.Cut(image, "/")
	name, port, _ := strings.Cut(host, ":")
	imageName, imagePort, _ := strings.Cut(imageHost, ":")
	parts, imageParts := strings.Split(name, "."), strings.Split(imageName, ".")
	if port != imagePort || len(parts) != len(imageParts) || !strings.HasPrefix(imageBelow, below) {
		return false
	}
	for i := range parts {
		if ok, err := path.Match(parts[i], imageParts[i]); !ok || err != nil {
			return false
		}
	}
	return true
}

func validPattern(pattern string) bool {
	host, below, _ := strings.Cut(pattern, "/")
	name, port, _ := strings.Cut(host, ":")
	_, err := path.Match(name, "")
	return err == nil && name != "" && !strings.ContainsAny(port+below, "*?[ ") && !strings.Contains(pattern, "://")
}

// about reports whether the provider is to be asked for an image.
func (p Provider) about(image string) bool {
	return slices.ContainsFunc(p.MatchImages, func(pattern string) bool { return matches(pattern, image) })
}

// best is the key of an answer that is used for an image: the longest, and of a host's
// own before patterns. That is the last one in order, as for the kubelet.
func best[V any](answer map[string]V, image string) (key string, ok bool) {
	for _, key := range slices.Backward(slices.Sorted(maps.Keys(answer))) {
		if matches(key, image) {
			return key, true
		}
	}
	return "", false
}
