# Heartwood's task list. `make help` says what each does. Go and make are all that build, demo and run need; test installs
# the rest by itself where it may (tests/setup.sh).

SHELL       := /bin/sh
BIN         := $(CURDIR)/.bin
GOLANGCI    := github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
GOFUMPT     := mvdan.cc/gofumpt@v0.12.0
GOTESTSUM   := gotest.tools/gotestsum@v1.13.0
VERSITYGW   := github.com/versity/versitygw/cmd/versitygw@v1.8.0
DATA        ?= data
LISTEN      ?= 127.0.0.1:8080
PKG         ?= ./...
IMAGE       ?= heartwood:dev
ARGS        ?=
SOAK        ?= 30m
# Up to three failed tests are run once more by themselves, and are listed as failed once: many start processes, elections and
# browsers, whose time a busy machine stretches. What fails twice fails.
AGAIN       := --rerun-fails=1 --rerun-fails-max-failures=3
LAMBDA_DIST ?= dist/lambda

export CGO_ENABLED := 0

.DEFAULT_GOAL := help
.PHONY: help demo run build guests test race check lint fmt fmt-check bench soak fuzz tools image sam-package clean

help: ## this list
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## bin/heartwood, the one binary
	go build -buildvcs=auto -trimpath -ldflags='-s -w' -o bin/heartwood ./local/heartwood

guests: ## bin/guests/*.wasm, the functions as WebAssembly guests for --sandbox=wasm (docs/architecture.md)
	@for f in app ingestion alerts health; do echo "guest $$f"; \
		GOOS=wasip1 GOARCH=wasm go build -buildvcs=auto -trimpath -ldflags='-s -w' -buildmode=c-shared -o bin/guests/$$f.wasm ./functions/$$f/guest || exit 1; \
	done

demo: build $(if $(SANDBOX),guests) ## server, simulated replica set and agent on this machine; Ctrl-C stops it (SANDBOX=wasm: the functions as guests)
	./bin/heartwood demo --data $(DATA)/demo --listen $(LISTEN) $(if $(SANDBOX),--sandbox=$(SANDBOX)) $(ARGS)

run: build $(if $(SANDBOX),guests) ## the server alone
	./bin/heartwood serve --data $(DATA) --listen $(LISTEN) $(if $(SANDBOX),--sandbox=$(SANDBOX)) $(ARGS)

test: tools ## every test; what had to be skipped is listed last
	@sh tests/setup.sh
	$(BIN)/gotestsum --format pkgname-and-test-fails $(AGAIN) --packages="$(PKG)" -- -timeout 20m

race: tools ## the tests of concurrent code under the race detector (needs a C compiler)
	CGO_ENABLED=1 $(BIN)/gotestsum --format pkgname-and-test-fails $(AGAIN) \
		--packages="./shared/... ./functions/... ./daemon/... ./local/..." -- -race -short -timeout 30m

check: fmt-check lint ## formatting, vet, linters, import levels
	go vet ./...
	go test ./tests/arch

lint: tools
	$(BIN)/golangci-lint run --allow-parallel-runners ./...

fmt: tools ## format all Go files
	$(BIN)/gofumpt -w $$(git ls-files '*.go')

fmt-check: tools
	@out=$$($(BIN)/gofumpt -l $$(git ls-files '*.go')); \
	if [ -n "$$out" ]; then echo "not formatted (make fmt):"; echo "$$out"; exit 1; fi

bench: build ## the measured claims of docs/benchmarks.md (minutes; BENCH= picks some)
	BENCH="$(BENCH)" sh tests/bench.sh

soak: build ## 10,000 hosts at one ping a minute for ten minutes against a fresh server; a backup under kill -9 for SOAK=30m
	go run ./tests/load --server ./bin/heartwood --hosts 10000 --minutes 10 $(ARGS)
	HEARTWOOD_SOAK=$(SOAK) go test ./tests/backup -run '^TestSoak$$' -count 1 -v -timeout 3h

fuzz: ## each fuzz target for 20 s (FUZZTIME=)
	sh tests/fuzz.sh $(FUZZTIME)

tools: $(BIN)/golangci-lint $(BIN)/gofumpt $(BIN)/gotestsum $(BIN)/versitygw ## the pinned programs, into .bin

$(BIN)/golangci-lint: Makefile
	@echo "building golangci-lint (about a minute, once)"; GOBIN=$(BIN) go install $(GOLANGCI); touch $@
$(BIN)/gofumpt: Makefile
	GOBIN=$(BIN) go install $(GOFUMPT); touch $@
$(BIN)/gotestsum: Makefile
	GOBIN=$(BIN) go install $(GOTESTSUM); touch $@
$(BIN)/versitygw: Makefile
	@echo "building versitygw, the S3 server of the tests (two minutes, once)"; GOBIN=$(BIN) go install $(VERSITYGW); touch $@

image: build ## container image heartwood:dev, FROM scratch, without a registry (IMAGE= names it)
	sh infra/docker/build.sh $(IMAGE) bin/heartwood

# norpc leaves out what only the retired go1.x runtime needs.
sam-package: ## the functions for AWS Lambda as dist/lambda/NAME-PROCESSOR.zip, for template.yaml (docs/lambda.md)
	@mkdir -p $(LAMBDA_DIST); for f in app ingestion alerts health; do for p in arm64:arm64 x86_64:amd64; do \
		out=$(LAMBDA_DIST)/$$f-$${p%:*}; \
		GOOS=linux GOARCH=$${p#*:} go build -buildvcs=auto -tags lambda.norpc -trimpath -ldflags='-s -w' -o $$out.bootstrap ./functions/$$f/lambda && \
		go run ./infra/aws/zip $$out.bootstrap $$out.zip && rm $$out.bootstrap && ls -l $$out.zip | awk '{printf "%s %.1f MB\n", $$NF, $$5/1000000}' || exit 1; \
	done; done

clean: ## what build and demo made
	rm -rf bin dist $(DATA)/demo
