package upstream_test

import (
	"errors"
	"fmt"

	"github.com/d8-registry/registry/internal/upstream"
)

// What a user writes becomes a comparable value, or an error about one field.
// Nothing prints a password.
func Example() {
	u, err := upstream.Parse(upstream.Settings{ImagesRepo: "Registry.example.com/deckhouse/ee/", License: "secret-key"})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(u)
	fmt.Println(u.Host, u.Path, u.Scheme)
	fmt.Println(u.Credentials.Username, u.Credentials)

	_, err = upstream.Parse(upstream.Settings{ImagesRepo: "https://registry.example.com"})
	var wrong *upstream.FieldError
	fmt.Println(errors.As(err, &wrong), err)

	// Output:
	// https://registry.example.com/deckhouse/ee
	// registry.example.com deckhouse/ee https
	// license-token redacted
	// true imagesRepo: "https://registry.example.com": expected host[:port][/path], without scheme, credentials, tag and digest.
}
