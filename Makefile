# Limes: every task by name. `make help` lists them.
SHELL := /bin/bash
PYTHON3 ?= python3
PYTHON := .venv/bin/python
SCOPE ?=
STATE ?= state

RUN_PACKAGES := clang llvm libbpf-dev libbpf1 linux-libc-dev gcc make python3-venv \
  iproute2 openssh-client openssh-server git
TEST_PACKAGES := $(RUN_PACKAGES) bpftool python3-bpfcc qemu-system-x86 mmdebstrap erofs-utils \
  debian-archive-keyring kmod
BPF_SOURCES := bpf/limes.bpf.c $(wildcard bpf/programs/*.c bpf/lib/*.h bpf/include/*.h)
OURS := sensor control vagrant bpf/generate.py tests

# Installs what is missing of the given Debian packages; says what to install where there is no apt-get.
define install
	@missing=$$(for p in $(1); do dpkg-query -W -f='$${Status}' $$p 2>/dev/null \
	  | grep -q 'ok installed' || echo $$p; done); \
	if [ -n "$$missing" ]; then \
	  command -v apt-get >/dev/null || { echo "Install the equivalents of:" $$missing >&2; exit 3; }; \
	  echo "Installing:" $$missing; apt-get update -qq && DEBIAN_FRONTEND=noninteractive \
	  apt-get install -y -qq --no-install-recommends $$missing >/dev/null; \
	fi
endef

.PHONY: help run test check dev bpf generate proto bench clean packages-run packages-test

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

run: packages-run .venv/.run-stamp bpf ## Watch the modelled incident live: sensor, control plane, drill, alerts, hunts
	.venv/bin/limes up --drill --state $(STATE) $(if $(SCOPE),--scope $(SCOPE))

test: packages-test .venv/.dev-stamp bpf check ## Everything that CI runs: checks and all tests, VM included
	LIMES_RUN_KERNEL_TESTS=1 $(PYTHON) -m pytest --cov --cov-report=term:skip-covered

check: ## Formatters, linters, types, contracts and generated files
	.venv/bin/ruff check $(OURS)
	.venv/bin/ruff format --check $(OURS)
	.venv/bin/mypy sensor/limes control/limes vagrant/harness bpf/generate.py
	.venv/bin/lint-imports
	.venv/bin/buf lint proto
	.venv/bin/clang-format --dry-run -Werror $(filter-out bpf/include/event.h,$(BPF_SOURCES))
	$(PYTHON) bpf/generate.py --check
	$(PYTHON) -P -m limes.cli.reference --check docs/cli.md

dev: packages-test .venv/.dev-stamp bpf ## Everything for working on Limes

bpf: ## Build the BPF object
	@$(MAKE) --no-print-directory -C bpf

generate: proto ## Write everything derived from the event registry, the protos and the commands
	$(PYTHON) bpf/generate.py
	$(PYTHON) -P -m limes.cli.reference >docs/cli.md.new && mv docs/cli.md.new docs/cli.md

proto: ## Write the gRPC stubs
	$(PYTHON) -m grpc_tools.protoc -Iproto --python_out=proto/gen --pyi_out=proto/gen \
	  --grpc_python_out=proto/gen proto/limes/v1/*.proto

bench: packages-test .venv/.dev-stamp bpf ## Measure; prints the figures with their spread
	PYTHONPATH=vagrant $(PYTHON) -m tests.bench

clean: ## Remove what was built
	rm -rf .venv state build dist sensor/limes/sensor/_bpf

packages-run:
	$(call install,$(RUN_PACKAGES))

packages-test:
	$(call install,$(TEST_PACKAGES))

.venv/bin/python:
	$(PYTHON3) -m venv .venv

.venv/.run-stamp: pyproject.toml | .venv/bin/python
	$(PYTHON) -m pip install -q -e '.[sensor,control]'
	@touch $@

.venv/.dev-stamp: pyproject.toml | .venv/bin/python
	$(PYTHON) -m pip install -q -e '.[sensor,control,dev]'
	@touch $@ .venv/.run-stamp
