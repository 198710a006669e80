// Package judge says what the answer of a registry means: whether it serves, refuses
// or makes no sense (outcome.go), and whether bytes are an image (manifest.go). It is
// the only place that does. The image check before a switch, the proof of each node
// and of the proxy, and the data path ask it, so that no gate opens onto a registry
// that pulls would fail at.
//
// A status alone never makes an image: a web server answers 200 to everything.
//
// Registry asks one registry for one image and judges what comes. The package makes
// no connection of its own and knows nothing of Kubernetes. Start at Registry.Image.
package judge
