package stores

import (
	"regexp"
	"slices"
	"strings"
)

const (
	// mostPins and mostPinBytes are how many images stores are told of, and how long the list
	// may be: a Secret has room for a layout beside it.
	mostPins     = 20_000
	mostPinBytes = 500 << 10
	// mostRepository is the length of a repository below the fixed address: with its path it
	// has no more than 255 bytes.
	mostRepository = 238
)

// pinForm is an image as stores read it: a repository or none, and a tag or a digest.
var pinForm = regexp.MustCompile(`^([a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*)?` +
	`(:[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127})?(@(?:sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}))?$`)

// Pins are the images that stores never evict, and fetch when they are missing, as in
// Census.Required and Reference.Image; those of a list before come first. What is no image, as
// somebody wrote it into a Pod, is left out: stores refuse a list with it as a whole. So is
// what is too much.
func Pins(lists ...[]string) []string {
	var pins []string
	known, size := map[string]bool{}, 0
	for _, list := range lists {
		for _, image := range slices.Sorted(slices.Values(list)) {
			if !strings.ContainsAny(image, ":@") {
				image += ":latest"
			}
			parts := pinForm.FindStringSubmatch(image)
			if parts == nil || len(parts[1]) > mostRepository {
				continue
			}
			if parts[3] != "" {
				image = parts[1] + parts[3] // name:tag@digest means the digest
			}
			if known[image] {
				continue
			}
			if size += len(image) + 1; len(pins) == mostPins || size > mostPinBytes {
				return pins
			}
			known[image] = true
			pins = append(pins, image)
		}
	}
	return pins
}

// roomForRest is for what is beside the values of a Secret: its keys, labels and owners.
const roomForRest = 32 << 10

// fit are the first pins that take no more than so many bytes: a layout, without which nobody
// pulls, comes before a list that spares some fetches.
func fit(pins []string, room int) []string {
	for i, pin := range pins {
		if room -= len(pin) + 1; room < 0 {
			return pins[:i]
		}
	}
	return pins
}
