# Limes: every task by name. `make help` lists them.
SHELL := /bin/bash
PYTHON := .venv/bin/python
BPF_OBJECT := sensor/limes/sensor/_bpf/limes.bpf.o

.PHONY: help run test venv bpf generate proto check dev

help: ## List the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 16

venv: .venv/.stamp ## Make the virtual environment with everything for development

.venv/.stamp: pyproject.toml
	test -x $(PYTHON) || python3 -m venv .venv
	touch README.md
	$(PYTHON) -m pip install -q -e '.[sensor,control,dev]'
	touch $@

bpf: ## Build the BPF object
	$(MAKE) -C bpf

generate: proto ## Write everything derived from the event registry and the protos
	$(PYTHON) bpf/generate.py

proto: ## Write the gRPC stubs
	$(PYTHON) -m grpc_tools.protoc -Iproto --python_out=proto/gen --pyi_out=proto/gen \
	  --grpc_python_out=proto/gen proto/limes/v1/*.proto
