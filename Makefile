# Everything a person types; bare `make` lists it. What is missing on the machine is installed first.

CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/waybill
OWN_UV := $(CACHE)/uv/bin/uv
UV := $(shell uv --version >/dev/null 2>&1 && echo uv || echo $(OWN_UV))
MANIFESTS := uv.lock pyproject.toml $(wildcard packages/*/pyproject.toml services/*/pyproject.toml)
SYNCED := .venv/.synced
BIN := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help demo up down status doctor test faults faults-quick faults-table test-k8s lint format clean

help: ## List these targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(SYNCED) ## Watch orders go from checkout to doorstep; Ctrl-C ends it
	@$(BIN)/waybill demo

up: $(SYNCED) ## Start everything and leave it running
	@$(BIN)/waybill up --detach

down: $(SYNCED) ## Stop everything
	@$(BIN)/waybill down

status: $(SYNCED) ## Show what runs, and where
	@$(BIN)/waybill status

doctor: $(SYNCED) ## Check this machine, and name the fix for what is wrong
	@$(BIN)/waybill doctor

test: $(SYNCED) ## Run all tests: first each service for itself, then the whole platform
	@$(BIN)/waybill prepare
	@$(BIN)/pytest -q -n auto --maxprocesses 4 -m "not e2e and not fault and not k8s"
	@$(BIN)/pytest -q -m e2e
	@$(BIN)/pytest -q tests/faults -m "fault and quick"

faults-quick: $(SYNCED) ## Hurt the platform for ten minutes, and see what it survives
	@$(BIN)/waybill prepare
	@$(BIN)/pytest -q tests/faults -m "fault and quick"

# As root, in namespaces of its own: it cuts the network, fills a disk and cuts that off. It needs the
# packages nftables and faketime. What passed is in .faults/results.jsonl and is not run again.
faults: $(SYNCED) ## Every line of the matrix twenty times, and an hour of random faults; goes on where it was interrupted
	@$(BIN)/waybill prepare
	@unshare --net --pid --fork --kill-child --mount-proc sh -c 'ip link set lo up && exec "$$@"' sh \
		$(BIN)/pytest -q tests/faults -m fault --repeats 20 --resume

faults-table: $(SYNCED) ## Print what the faults have shown so far, as Markdown
	@PYTHONPATH=tests $(BIN)/python -m faults.report

test-k8s: $(SYNCED) ## Run the platform in a Kubernetes cluster, and test it there; as root
	@$(BIN)/waybill cluster test

lint: $(SYNCED) ## Check style, types and the boundaries between packages
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/pyright
	@$(BIN)/lint-imports

format: $(SYNCED) ## Format the code
	@$(BIN)/ruff check --fix --quiet
	@$(BIN)/ruff format

clean: ## Stop everything; remove its data, secrets and logs, and the tools' caches
	@if [ -x $(BIN)/waybill ]; then $(BIN)/waybill clean; fi
	@rm -f $(addprefix k8s/components/secrets/,*.env *.json *.conf)
	@rm -rf .waybill .waybill.replaced-* .dapr .faults .pytest_cache .ruff_cache .hypothesis .import_linter_cache .coverage* htmlcov

$(SYNCED): $(MANIFESTS) | $(filter /%,$(UV))
	@echo "Installing the Python packages…"
	@$(UV) sync --locked --all-packages --quiet
	@touch $@

# uv comes from PyPI, so that one registry is all it takes.
$(OWN_UV):
	@echo "Installing uv in $(CACHE)/uv…"
	@python3 -c 'import ensurepip' 2>/dev/null || $(INSTALL_VENV)
	@rm -rf $(CACHE)/uv && python3 -m venv $(CACHE)/uv
	@$(CACHE)/uv/bin/pip install --quiet --disable-pip-version-check uv

# Debian splits venv from Python.
define INSTALL_VENV
{ \
	if [ "$$(id -u)" = 0 ]; then become_root=; \
	elif sudo -n true 2>/dev/null; then become_root=sudo; \
	else echo "Type this, then try again: sudo apt-get install python3-venv"; exit 1; fi; \
	$$become_root apt-get update -qq && $$become_root apt-get install -qq --yes python3-venv; \
}
endef
