package fetch

import (
	"context"
	"slices"

	"github.com/d8-registry/registry/internal/datapath/oci"
	"github.com/d8-registry/registry/internal/datapath/routes"
)

// Exchange is one pull on its way: what is wanted, who may serve it, and who does. Only
// the goroutine that serves the pull touches it.
type Exchange struct {
	Pull   oci.Pull
	Route  routes.Route
	Record *Record
	Served *routes.Target // whose answer is being read

	// Joined is told of who goes on with a body that another one began; nil is nobody. It is called
	// where the body is read.
	Joined func(*routes.Target)

	// Giver is who gave of the same content before, for whoever has it in several pulls: it is asked
	// first, as long as it is well. nil is nobody.
	Giver *routes.Target

	broken *routes.Target // whose answer ended too early; it is tried last
	proved bool           // the answer has the right digest
	begun  bool           // a client has a part of it already
}

// Record is what came of a pull.
type Record struct {
	Upstream string // host that served
	Attempts int
	Resumed  int
	Err      error
}

// others reports whether more than one upstream may be asked for the pull.
func (x *Exchange) others() bool {
	may := 0
	for _, t := range x.Route.Targets {
		if t.Allows(x.Pull) {
			may++
		}
	}
	return may > 1
}

// goOn are those who may be asked, with the Giver first. A store that is asked for what it has begins
// a body and goes on with none: readers who were told that it is of one upstream do not hash it.
func (x *Exchange) goOn() []*routes.Target {
	all := x.Route.Targets
	if x.begun {
		all = slices.DeleteFunc(slices.Clone(all), (*routes.Target).OnlyKept)
	}
	if i := slices.IndexFunc(all, func(t *routes.Target) bool { return x.Giver != nil && t.Server == x.Giver.Server }); i > 0 {
		all = slices.Concat(all[i:i+1], all[:i], all[i+1:])
	}
	return all
}

func (x *Exchange) joins() {
	if x.Joined != nil {
		x.Joined(x.Served)
	}
}

type exchangeKey struct{}

// With is the context of the request for an exchange.
func With(ctx context.Context, x *Exchange) context.Context {
	return context.WithValue(ctx, exchangeKey{}, x)
}

// From is the exchange of a request; nil if there is none.
func From(ctx context.Context) *Exchange {
	x, _ := ctx.Value(exchangeKey{}).(*Exchange)
	return x
}
