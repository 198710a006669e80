# Everything a newcomer needs: `make help`. Two commands do all the set-up on a
# fresh machine: `make demo` (the main job) and `make test`.
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PARTS   := $(CURDIR)/.parts/bin
CLUSTER := etcd kube-apiserver kubectl registry containerd containerd-shim-runc-v2 ctr yq
# What only tests run: the older containerds, what it takes to run pods, and who pulls.
NODES   := containerd-1.7 containerd-1.6 runc pause kube-controller-manager kube-scheduler
PULLS   := conformance skopeo
# What the cluster of e2e runs besides, and tools that the documentation uses.
E2E     := kubelet kube-proxy cni coredns nft tree helm
PKG     ?= ./...
RUN     ?=

.PHONY: help
help: ## Show this list
	@awk -F':.*## ' '/^[a-z0-9-]+:.*## /{printf "  %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: demo
demo: cluster build ## The main job on real parts, from nothing: KEEP=1 leaves it running until Ctrl-C, BREAK=order|final-early|store-only|no-fall-through|last-byte must fail, STORY=name runs another story
	@KEEP="$(KEEP)" BREAK="$(BREAK)" STORY="$(STORY)" bin/demo

# A run of some packages or tests is for somebody who works on them.
some := $(filter-out ./...,$(PKG))$(RUN)

.PHONY: test
test: $(if $(some),,lint verify) parts ## Lint, verify, then every test this machine can run; names what it skipped. PKG=./internal/node/... RUN=TestName runs only these tests
	@RUN='$(RUN)' hack/leftovers.sh hack/test.sh $(PKG)

.PHONY: test-fast
test-fast: ## The tests that need no real parts, in under 2 minutes with warm caches; names what it left out. PKG= and RUN= as for test
	@hack/parts.sh gotestsum
	@RUN='$(RUN)' hack/leftovers.sh hack/test.sh --fast $(PKG)

.PHONY: e2e
e2e: build ## The documentation line by line on a real cluster of three nodes (parts: about 45 min cold, 15 of them after make test): KEEP=1 leaves it running until Ctrl-C
	@hack/parts.sh $(CLUSTER) $(NODES) $(E2E)
	@E2E=1 KEEP="$(KEEP)" $(if $(KEEP),,hack/leftovers.sh) go test ./test/e2e -run TestE2E -v -count=1 -timeout $(if $(KEEP),0,60m)

.PHONY: versions
versions: ## The chart and the admission policies on the oldest and the newest Kubernetes API server, 1.30 and 1.36
	@hack/versions.sh 1.30 1.36

.PHONY: lint
lint: ## golangci-lint over every module, import rules included
	@hack/parts.sh golangci-lint
	@$(PARTS)/golangci-lint run --allow-parallel-runners ./...
	@for module in test/containerd test/containerd/v16; do (cd $$module && $(PARTS)/golangci-lint run --allow-parallel-runners --config $(CURDIR)/.golangci.yaml ./...); done
	@cd hack/image && $(PARTS)/golangci-lint run --allow-parallel-runners --config $(CURDIR)/.golangci.yaml ./...

.PHONY: fix
fix: ## Let golangci-lint repair what it can
	@hack/parts.sh golangci-lint
	@$(PARTS)/golangci-lint run --fix ./...

.PHONY: build
build: ## Build our programs into bin/
	@CGO_ENABLED=0 go build -trimpath -o bin/ ./cmd/... ./demo

.PHONY: image
image: ## The module's image for amd64 and arm64: dist/registry.tar and what is in it; PUSH=registry/path:tag pushes it
	@cd hack/image && go run . -source $(CURDIR) -o $(CURDIR)/dist $(if $(VERSION),-version $(VERSION)) $(if $(PUSH),-push $(PUSH))

.PHONY: chart
chart: ## The chart as dist/registry-VERSION.tgz, which names the image of make image by digest: VERSION=
	@hack/parts.sh helm
	@hack/chart.sh dist "$(VERSION)"

.PHONY: manifests
manifests: ## The chart as one YAML, dist/manifests.yaml: VALUES=file; PLATFORM=yes without what a cluster of the platform has
	@rm -f dist/manifests.yaml dist/uninstall.yaml # of other values: nobody is to apply them if these are refused
	@hack/parts.sh helm
	@mkdir -p dist && umask 077 && hack/manifests.sh "$(VALUES)" "$(PLATFORM)" >dist/manifests.yaml.new || { rm -f dist/manifests.yaml.new; exit 1; }
	@mv dist/manifests.yaml.new dist/manifests.yaml
	@hack/manifests.sh "$(VALUES)" uninstall >dist/uninstall.yaml

.PHONY: parts
parts: ## Build the real components into .parts, once (about 40 min on 2 cores with empty Go caches)
	@hack/parts.sh $(CLUSTER) $(NODES) $(PULLS) helm gotestsum

.PHONY: cluster
cluster:
	@hack/parts.sh $(CLUSTER) $(if $(filter old-containerd broken-restart,$(STORY)),containerd-1.7 containerd-1.6)

.PHONY: generate
generate: ## Deep copies and CRDs from the API types
	@hack/parts.sh controller-gen
	@$(PARTS)/controller-gen object paths=./api/...
	@$(PARTS)/controller-gen crd paths=./api/... output:crd:artifacts:config=deploy/crds

.PHONY: verify
verify: ## What is generated is up to date, and every go.mod is tidy
	@hack/verify.sh

.PHONY: bench
bench: build ## The data path beside nginx and distribution, in under half an hour: tables, also in docs/performance.md; SHORT=1 the same rows in two minutes, printed only
	@hack/parts.sh nginx registry
	@go build -trimpath -o bin/bench ./test/bench
	@bin/bench $(if $(SHORT),-short,-write docs/performance.md)

.PHONY: bench-store
bench-store: build ## The store of Proxy mode beside caches of nginx and distribution, in 20 minutes: tables, also in docs/performance.md; SHORT=1 with less of each in 4 minutes, printed only
	@hack/parts.sh nginx registry
	@go build -trimpath -o bin/bench ./test/bench
	@bin/bench store $(if $(SHORT),-short,-write docs/performance.md)

.PHONY: bench-etcd
bench-etcd: build ## What a real etcd feels of a store that fills on its disk, with the guard and without (root; 3 minutes and more, by the disk): a table; SIZE=20 in GiB, 2 without it
	@hack/parts.sh nginx registry etcd
	@go build -trimpath -o bin/bench ./test/bench
	@bin/bench etcd -size $(or $(SIZE),2)

.PHONY: faults
faults: parts ## 500 pulls by containerd 1.6, 1.7, 2.x, go-containerregistry and skopeo, of a layer of 1 GiB too, while the registry fails at random (half an hour): ROUNDS=, LAYER= in MiB, SEED= of another run
	@ROUNDS=$(or $(ROUNDS),500) LAYER=$(or $(LAYER),1024) SEED=$(SEED) KUBEBUILDER_ASSETS=$(PARTS) hack/leftovers.sh \
		go test ./test/clients -run TestRounds -v -count=1 -timeout 3h

.PHONY: scale
scale: parts ## A switch of 1,000 and of 5,000 simulated nodes with 30 Pods each on a real API server (16 GB of memory): for each step seconds, passes, writes, and what the controller's process takes; then what a pass costs
	@for n in 1000 5000; do SCALE=$$n KUBEBUILDER_ASSETS=$(PARTS) go test ./internal/control/controller -run 'TestScale$$' -v -count=1 -timeout 60m; done
	@go test ./internal/control/controller -run '^$$' -bench BenchmarkPass -benchmem -benchtime 5x

.PHONY: clean
clean: ## Remove what the build made, the real parts included
	@rm -rf bin dist .parts .demo
