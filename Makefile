# `make` without a target lists the targets.

# Private network and mount namespaces with their own /run: no test can touch the host.
SANDBOX ?= .venv/bin/python -m nicwatchd.sim.sandbox
# Tests mostly wait (a lag of 8 s takes 8 s), so run more of them than there are cores.
WORKERS ?= 6
# The images that `make test-vm` tests on. Others are sid, cloud-init, net-utils, network-manager, and
# whatever else tests/vm/image.py has a recipe for.
IMAGES ?= trixie bookworm
# The images that `make bench-peers` uses (tests/bench/peers/agents.py).
PEER_IMAGES := trixie net-utils cloud-init
# More arguments for pytest: make test ARGS='-k journal -x'
ARGS ?=

# Each test of a host starts daemons, which would compile all modules anew without this.
export PYTHONDONTWRITEBYTECODE :=

# ip and nft are in sbin, which is not on every user's PATH.
export PATH := $(PATH):/usr/sbin:/sbin

# For `make install`: the prefix, and the directory that stands for / when building a package.
PREFIX ?= /usr/local
DESTDIR ?=
# The Python that builds, and that `make install` installs for: 3.11 or later, with venv.
PYTHON ?= python3
DEB_ARCHS ?= amd64 arm64
RPM_ARCHS ?= x86_64 aarch64
RPM_FAMILIES ?= amzn2023 el9 el10 sles16

STAMP := .venv/.set-up
# A Python with pip, to download the libraries for packages. Not .venv, which needs a compiler.
PIP := build/pip-$(notdir $(PYTHON))/bin/python

.PHONY: help
help: ## List the targets (the default)
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' Makefile

.PHONY: setup
setup: $(STAMP) ## Install what is missing: system packages (Debian, Ubuntu), .venv and its dependencies

$(STAMP): pyproject.toml constraints.txt .ci/setup .ci/software
	@.ci/setup
	@touch $@

$(PIP):
	@$(PYTHON) -m venv $(@D)/..

.PHONY: demo
demo: $(STAMP) ## Hot-plug a network interface into a simulated EC2 host and watch it become usable
	@.venv/bin/nicwatchd demo

# The order of a set is a part of what the state machines draw: with their seed fixed, it is, too.
PYTEST = PYTHONHASHSEED=0 $(SANDBOX) .venv/bin/python -m pytest -n $(WORKERS) --dist worksteal

.PHONY: test
test: $(STAMP) ## Run the tests that end within minutes, which are nearly all
	@$(PYTEST) -m "not long" $(ARGS)

.PHONY: test-long
test-long: $(STAMP) ## Run the tests that take longer: random walks, hosts that break, others' software
	@$(PYTEST) -m long $(ARGS)

VM_STAMP := .venv/.set-up-vm
VM_TESTS := not long

$(VM_STAMP): $(STAMP)
	@.ci/setup vm
	@touch $@

.PHONY: test-vm
test-vm: $(VM_STAMP) ## Test the package on virtual machines with systemd, DHCP and PCI hot-plug; takes minutes
	@$(MAKE) --no-print-directory deb DEB_ARCHS=amd64
	@.ci/setup repository
	@RPM_ARCHS= OUT=build/pair URL=file:///srv/repository systemd/packaging/repository/pair
	@.venv/bin/python -m tests.vm.image $(IMAGES)
	@$(SANDBOX) .venv/bin/python -m pytest tests/vm -m "$(VM_TESTS)" $(addprefix --image=,$(IMAGES)) $(ARGS)

.PHONY: test-upgrade
test-upgrade: ## Upgrade and downgrade a virtual machine from a repository, with traffic; takes ten minutes each
	@$(MAKE) --no-print-directory test-vm VM_TESTS=long

.PHONY: test-fleet
test-fleet: $(STAMP) ## Run the alerts of docs/fleet in a real Prometheus, on hosts that break; takes a minute
	@$(SANDBOX) .venv/bin/python -m pytest tests/fleet $(ARGS)

DOCS_STAMP := .venv/.set-up-docs

$(DOCS_STAMP): $(STAMP)
	@.ci/setup docs
	@touch $@

.PHONY: docs
docs: $(DOCS_STAMP) ## Build the site from docs/ into build/site, which needs no network to be read
	@NO_MKDOCS_2_WARNING=1 .venv/bin/python -m mkdocs build --quiet --strict

.PHONY: test-docs
test-docs: docs ## Look at every page of the site in a browser: links, pictures, width, nothing from elsewhere
	@$(SANDBOX) .venv/bin/python -m pytest tests/site $(ARGS)

.PHONY: chaos
chaos: $(STAMP) ## Run long random sequences of what can happen to a host; takes minutes
	@$(SANDBOX) .venv/bin/python -m tests.chaos.run $(ARGS)

.PHONY: replay
replay: $(STAMP) ## Replay a recording in the simulator: make replay FILE=recording.jsonl (docs/replay.md)
	@.venv/bin/python -m nicwatchd.sim.replay $(FILE)

.PHONY: flows
flows: $(STAMP) ## Show who reaches whom beside each kind of network manager, without and with protection
	@$(SANDBOX) .venv/bin/python -m tests.scenarios.flows

.PHONY: lint
lint: $(STAMP) ## Check style and format
	@.venv/bin/ruff format --check .
	@.venv/bin/ruff check .

.PHONY: types
types: $(STAMP) ## Check types
	@.venv/bin/mypy

.PHONY: format
format: $(STAMP) ## Format the code, and fix what can be fixed automatically
	@.venv/bin/ruff format .
	@.venv/bin/ruff check --fix .

.PHONY: bench
bench: $(STAMP) ## Measure latency and cost, compare with the budgets (docs/benchmarks.md); takes minutes
	@$(SANDBOX) .venv/bin/python -m tests.bench.run $(ARGS)

.PHONY: bench-boot
bench-boot: $(VM_STAMP) ## Measure by how much nicwatchd delays the boot of a virtual machine; takes minutes
	@$(MAKE) --no-print-directory deb DEB_ARCHS=amd64
	@.venv/bin/python -m tests.vm.image trixie
	@$(SANDBOX) .venv/bin/python -m tests.bench.boot $(ARGS)

.PHONY: bench-idle
bench-idle: $(VM_STAMP) ## Count the instructions that nicwatchd takes at rest, on a virtual machine; takes minutes
	@$(MAKE) --no-print-directory deb DEB_ARCHS=amd64
	@.venv/bin/python -m tests.vm.image trixie
	@$(SANDBOX) .venv/bin/python -m tests.bench.idle $(ARGS)

.PHONY: bench-growth
bench-growth: $(STAMP) ## Measure how the costs grow from 1 to 64 network interfaces; takes ten minutes
	@$(SANDBOX) .venv/bin/python -m tests.bench.growth $(ARGS)

.PHONY: profile
profile: $(STAMP) ## Show where the time goes on a host of 64 interfaces (docs/performance.md); takes ten minutes
	@$(SANDBOX) .venv/bin/python -m tests.bench.profile $(ARGS)

.PHONY: bench-peers
bench-peers: $(VM_STAMP) ## Compare nicwatchd with other agents on virtual machines; takes 40 minutes
	@$(MAKE) --no-print-directory deb DEB_ARCHS=amd64
	@.venv/bin/python -m tests.vm.image $(PEER_IMAGES)
	@$(SANDBOX) .venv/bin/python -m tests.bench.peers.run $(ARGS)

.PHONY: mutants
mutants: $(STAMP) ## Mutation tests of the core (docs/mutants.md); takes minutes
	@.venv/bin/python -m tests.mutants.run $(ARGS)

.PHONY: install
install: $(PIP) ## Install on this host, by default under PREFIX=/usr/local (docs/install.md)
	@$(PIP) systemd/packaging/stage.py $(or $(DESTDIR),/) --prefix $(PREFIX) \
		--interpreter "$$($(PYTHON) -c 'import sys; print(sys.executable)')" --compile

.PHONY: deb
deb: ## Build the Debian packages for amd64 and arm64, in dist/
	@PYTHON=$(PYTHON) .ci/setup deb $(DEB_ARCHS)
	@$(MAKE) --no-print-directory $(PIP)
	@for arch in $(DEB_ARCHS); do PYTHON=$(PIP) systemd/packaging/deb/build $$arch || exit 1; done

.PHONY: rpm
rpm: ## Build the RPMs of each family (Amazon Linux, RHEL, SLES) for x86_64 and aarch64, in dist/
	@PYTHON=$(PYTHON) .ci/setup rpm $(RPM_ARCHS)
	@$(MAKE) --no-print-directory $(PIP)
	@for family in $(RPM_FAMILIES); do for arch in $(RPM_ARCHS); do \
		PYTHON=$(PIP) systemd/packaging/rpm/build $$family $$arch || exit 1; \
	done; done

.PHONY: release
release: ## Build all packages, the sources, an SBOM and SHA256SUMS in dist/; of a tagged commit, or with UNTAGGED=1
	@PYTHON=$(PYTHON) systemd/packaging/release

.PHONY: reproducible
reproducible: ## Build a release twice, in two folders on two days, and compare every byte
	@.ci/setup reproducible
	@PYTHON=$(PYTHON) systemd/packaging/reproducible

.PHONY: test-packages
test-packages: deb rpm ## Test the packages: lintian, rpmlint; install, upgrade, purge on Debian 12, 13 and sid (root)
	@.ci/setup test-packages
	@systemd/packaging/test

# DIST, OUT, URL and KEY are explained in that script.
.PHONY: repository
repository: ## Make a signed repository for apt and dnf of the packages in dist/, in build/repository
	@.ci/setup repository
	@systemd/packaging/repository/build

.PHONY: test-repository
test-repository: ## Test it: install, upgrade, downgrade, remove with apt on Debian, and with dnf (root)
	@.ci/setup repository
	@systemd/packaging/repository/test

.PHONY: clean
clean: ## Remove .venv and everything that was built
	@rm -rf .venv build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	@find nicwatchd tests -name __pycache__ -type d -prune -exec rm -rf {} +
