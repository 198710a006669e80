package proxy_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"

	"github.com/d8-registry/registry/internal/datapath/proxy"
	"github.com/d8-registry/registry/internal/datapath/routes"
	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/upstream"
)

// A client pulls by the fixed address. One registry is over its limit, so the
// next one serves; the client sees neither of them.
func Example() {
	limited := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusTooManyRequests)
	}))
	defer limited.Close()
	serving := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = fmt.Fprint(w, "test") // which has the digest below
	}))
	defer serving.Close()
	at := func(server *httptest.Server, path string) upstream.Upstream {
		return upstream.Upstream{Host: strings.TrimPrefix(server.URL, "http://"), Path: path, Scheme: upstream.HTTP}
	}

	table := routes.NewTable(nil)
	defer table.Close()
	err := table.Swap(layout.Layout{Generation: 1, Routes: layout.Cross(
		[]layout.Name{layout.Fixed()}, []upstream.Upstream{at(limited, "ee"), at(serving, "mirror")},
	)})
	if err != nil {
		fmt.Println(err)
		return
	}
	path := proxy.New(table, proxy.Config{DefaultHost: layout.Fixed().Host})

	const layer = "/blobs/sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
	for _, image := range []string{"/v2/system/deckhouse/tool" + layer, "/v2/other/tool" + layer} {
		answer := httptest.NewRecorder()
		path.ServeHTTP(answer, httptest.NewRequest(http.MethodGet, image, nil))
		fmt.Println(answer.Code, strings.TrimSpace(answer.Body.String()))
	}

	// Output:
	// 200 test
	// 404 {"errors":[{"code":"NAME_UNKNOWN","message":"no route for registry.d8-system.svc:5001/other/tool"}]}
}
