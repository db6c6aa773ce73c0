# `make demo` and `make test` do all the set-up they need. `make help` lists the rest.
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PROTOS := $(shell find protos third_party/flagd -name '*.proto')

# Compiled modules are kept: the tests and the demo start many processes.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help

help: ## this list
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | sort | expand -t 16

$(READY): requirements/all.lock requirements/torch.lock requirements/install pyproject.toml
	@requirements/install $(VENV)
	@touch $@

setup: $(READY) ## make the environment .venv from the locks

demo: $(READY) ## the whole loop in one run: simulate, train, serve, rank, feed back, rank again
	@$(BIN)/podium demo --setup-seconds "$$(cat $(VENV)/.setup_seconds)"
	@echo 0 > $(VENV)/.setup_seconds

test: $(READY) ## the test suite, a process a core and one more
	@$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder --durations=15

spark: $(READY) ## add PySpark to .venv; then the test suite has its tests, too, where there is Java
	@$(BIN)/uv pip install --quiet --no-deps --python $(BIN)/python -r requirements/spark.lock

test-spark: spark ## the dataset suite on PySpark in local mode alone; needs Java 17 or 21
	@command -v java >/dev/null || [ -n "$$JAVA_HOME" ] || { echo "no java on the PATH, no JAVA_HOME" >&2; exit 1; }
	@$(BIN)/python -m pytest -n0 -m "at_length or not at_length" tests/unit/offline/dataset/test_on_spark.py

lint: $(READY) ## ruff: lint and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY) ## mypy, strict
	$(BIN)/mypy

imports: $(READY) ## who may import whom
	$(BIN)/lint-imports

proto-lint: $(READY) ## buf lint; the breaking check advises until the first tag
	$(BIN)/buf lint
	$(BIN)/buf breaking protos --against protos/baseline.binpb || \
	  echo "advisory until the first tag: the contracts differ from protos/baseline.binpb"

stubs: $(READY) ## generate podium/ from protos/, podium/flagd/ from third_party/flagd/
	$(BIN)/python -m grpc_tools.protoc -I protos -I podium/flagd=third_party/flagd -I third_party \
	  --python_out=. --pyi_out=. --grpc_python_out=. --plugin=protoc-gen-mypy_grpc=$(BIN)/protoc-gen-mypy_grpc \
	  --mypy_grpc_out=quiet:. $(PROTOS)

baseline: $(READY) ## take today's contracts as the baseline of the breaking check
	$(BIN)/buf build protos -o protos/baseline.binpb

lock: $(READY) ## resolve pyproject.toml anew into requirements/*.lock
	requirements/resolve $(VENV)

chaos: $(READY) ## kill -9 a feature service 1,000 times: nothing lost, nothing counted twice (an hour)
	$(BIN)/python -m tests.chaos.kills --kills 1000

load: $(READY) ## ghz against a running ranker (GHZ=path to ghz, TARGET=host:port)
	deploy/load/run

test-k8s: $(READY) ## build, apply and try the deployment on a real Kubernetes
	deploy/k8s/test

.PHONY: help setup demo test spark test-spark lint types imports proto-lint stubs baseline lock chaos load test-k8s
