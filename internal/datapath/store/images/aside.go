package images

import "context"

// Aside is a pull that no client waits for, as who answers it knows it: of what is not to be kept
// nothing is fetched.
type Aside struct {
	// Known has nobody asked what a tag means: the answer is 204 where it is not known here.
	Known bool
	// Why is why the store gave nothing, as in the metric of what goes past it; "" if it did.
	Why string
}

type asideKey struct{}

// With is the context of the request of such a pull.
func (a *Aside) With(ctx context.Context) context.Context {
	return context.WithValue(ctx, asideKey{}, a)
}

// AsideOf is nil for the pull of a client.
func AsideOf(ctx context.Context) *Aside {
	a, _ := ctx.Value(asideKey{}).(*Aside)
	return a
}
