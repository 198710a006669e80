// What containers of tests run: a static program that only waits.
module github.com/d8-registry/registry/hack/parts/pause

go 1.26.6
