// Package registries pulls from every registry that docs/registries.md names, as its
// double in testregistry behaves, and from distribution v3 itself: through the data path,
// and as the image check asks. There is nothing in it but tests.
package registries
