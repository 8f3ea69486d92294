# `make` alone explains the targets.

# Private network and mount namespaces with an own /run: no test can touch the host.
SANDBOX ?= .venv/bin/python -m nicwatchd.sim.sandbox
# The tests wait more than they compute (a lag of 8 s takes 8 s), so more run than there are cores.
WORKERS ?= 6
# Which hosts `make test-vm` tries: also cloud-init, net-utils and network-manager, and what else
# tests/vm/image.py has a recipe for.
IMAGES ?= trixie bookworm
# What `make bench-peers` compares on (tests/bench/peers/agents.py).
PEER_IMAGES := trixie net-utils cloud-init
# More for pytest: make test ARGS='-k journal -x'
ARGS ?=

# ip and nft are in sbin, which is not on everybody's PATH.
export PATH := $(PATH):/usr/sbin:/sbin

# For `make install`: where to, and what stands for / (for those who make packages of it).
PREFIX ?= /usr/local
DESTDIR ?=
# The Python that builds, and that `make install` installs for: 3.11 or later, with venv.
PYTHON ?= python3
DEB_ARCHS ?= amd64 arm64
RPM_ARCHS ?= x86_64 aarch64

STAMP := .venv/.set-up
# A Python with pip, to fetch what packages are made of. Apart from .venv, which needs a compiler.
PIP := build/pip-$(notdir $(PYTHON))/bin/python

.PHONY: help
help: ## Explain the targets (the default)
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' Makefile

.PHONY: setup
setup: $(STAMP) ## Install what is missing: system packages (Debian, Ubuntu), .venv, dependencies

$(STAMP): pyproject.toml constraints.txt .ci/setup
	@.ci/setup
	@touch $@

$(PIP):
	@$(PYTHON) -m venv $(@D)/..

.PHONY: demo
demo: $(STAMP) ## Hot-plug a network interface into an imitated EC2 host and watch it become usable
	@.venv/bin/nicwatchd demo

.PHONY: test
test: $(STAMP) ## Run every test
	@$(SANDBOX) .venv/bin/python -m pytest -n $(WORKERS) --dist worksteal $(ARGS)

VM_STAMP := .venv/.set-up-vm

$(VM_STAMP): $(STAMP)
	@.ci/setup vm
	@touch $@

.PHONY: test-vm
test-vm: $(VM_STAMP) ## Try the package on virtual machines with systemd, DHCP and PCI hot-plug; takes minutes
	@$(MAKE) --no-print-directory deb DEB_ARCHS=amd64
	@.venv/bin/python -m tests.vm.image $(IMAGES)
	@$(SANDBOX) .venv/bin/python -m pytest tests/vm $(addprefix --image=,$(IMAGES)) $(ARGS)

.PHONY: lint
lint: $(STAMP) ## Check style and format
	@.venv/bin/ruff format --check .
	@.venv/bin/ruff check .

.PHONY: types
types: $(STAMP) ## Check types
	@.venv/bin/mypy

.PHONY: format
format: $(STAMP) ## Format the code, and mend what can be mended
	@.venv/bin/ruff format .
	@.venv/bin/ruff check --fix .

.PHONY: bench
bench: $(STAMP) ## Measure latency and cost against their budgets (docs/benchmarks.md); takes minutes
	@$(SANDBOX) .venv/bin/python -m tests.bench.run $(ARGS)

.PHONY: mutants
mutants: $(STAMP) ## Change the core one thing at a time: does a test notice? (docs/mutants.md); takes minutes
	@.venv/bin/python -m tests.mutants.run $(ARGS)

.PHONY: bench-boot
bench-boot: $(VM_STAMP) ## Measure how much later a virtual machine has booted (docs/benchmarks.md); takes minutes
	@$(MAKE) --no-print-directory deb DEB_ARCHS=amd64
	@.venv/bin/python -m tests.vm.image trixie
	@$(SANDBOX) .venv/bin/python -m tests.bench.boot $(ARGS)

.PHONY: bench-peers
bench-peers: $(VM_STAMP) ## Compare with other agents on virtual machines (docs/benchmarks.md); takes 40 minutes
	@$(MAKE) --no-print-directory deb DEB_ARCHS=amd64
	@.venv/bin/python -m tests.vm.image $(PEER_IMAGES)
	@$(SANDBOX) .venv/bin/python -m tests.bench.peers.run $(ARGS)

.PHONY: install
install: $(PIP) ## Install on this host: PREFIX=/usr/local, DESTDIR= (docs/install.md); no compiler needed
	@$(PIP) systemd/packaging/stage.py $(or $(DESTDIR),/) --prefix $(PREFIX) \
		--interpreter "$$($(PYTHON) -c 'import sys; print(sys.executable)')" --compile

.PHONY: deb
deb: $(PIP) ## Build the Debian packages for amd64 and arm64, in dist/
	@for arch in $(DEB_ARCHS); do PYTHON=$(PIP) systemd/packaging/deb/build $$arch || exit 1; done

.PHONY: rpm
rpm: $(PIP) ## Build the RPMs of Amazon Linux 2023 for x86_64 and aarch64, in dist/
	@for arch in $(RPM_ARCHS); do PYTHON=$(PIP) systemd/packaging/rpm/build $$arch || exit 1; done

.PHONY: test-packages
test-packages: ## Try the packages: lintian, and from installation to purge in Debian 12 and 13 (root)
	@systemd/packaging/test

.PHONY: clean
clean: ## Remove .venv and everything that was made
	@rm -rf .venv build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	@find nicwatchd tests -name __pycache__ -type d -prune -exec rm -rf {} +
