# Needs Python >= 3.11, make and git. `make help` lists the targets.
PYTHON ?= python3
SCALE  ?= digits
CORES  ?=
RANKS  ?=
BIN    := .venv/bin

# Long runs, what installs other programs: started by name, not by `make bench`.
HELPERS    := $(addprefix benchmarks/,machine.py loops.py network_cost.py counts.py budget.py)
BENCHMARKS := $(filter-out $(HELPERS) benchmarks/gflownets.py benchmarks/faults.py benchmarks/suite.py,$(wildcard benchmarks/*.py))

.DEFAULT_GOAL := help
.PHONY: help install reproduce test report restore record verify bundle clean-scale lock bench docs

help:
	@echo "make reproduce [SCALE=digits] [CORES=n] [ALLOW_CPU=1]   run what is stale, show figures, tables, verdicts;"
	@echo "               [RANKS=n]                                trainings and NLL on n GPUs (or CPU processes) each"
	@echo "make test                                               every test, with every stage of the scale smoke"
	@echo "make report                                             every result as one page: report/index.html"
	@echo "make restore [SCALE=name]                               fetch the recorded artifacts from the DVC remote"
	@echo "make record [SCALE=name]                                push them there"
	@echo "make verify [SCALE=name]                                read every recorded artifact, byte for byte"
	@echo "make bundle                                             a release archive of this commit, into build/"
	@echo "make clean-scale SCALE=name                             delete one scale's artifacts from this checkout"
	@echo "make bench [SCALE=digits]                               benchmarks/*.py, into benchmarks/results/"
	@echo "make docs                                               the API of the library as pages: build/api/index.html"
	@echo "make lock                                               requirements.in -> requirements.lock"
	@echo "make install                                            only .venv (PYTHON=/path/to/python3.11 chooses one)"

install: .venv/complete

# uv comes first, by pip and checked by its hash; uv checks everything else by hash and is ten times faster.
.venv/complete: requirements.lock pyproject.toml
	@command -v "$(PYTHON)" >/dev/null || { \
	  echo "make: $(PYTHON) not found; install Python 3.11 or later, or: make PYTHON=/path/to/python3" >&2; exit 2; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "make: $$("$(PYTHON)" --version) is too old; Python 3.11 or later is needed: make PYTHON=/path/to/python3.11" >&2; exit 2; }
	@"$(PYTHON)" -c 'import venv, ensurepip' 2>/dev/null || { \
	  echo "make: $(PYTHON) cannot make virtual environments; on Debian and Ubuntu: apt install python3-venv" >&2; exit 2; }
	@test -x $(BIN)/python || "$(PYTHON)" -m venv .venv
	@echo "installing what requirements.lock pins into .venv (the first time some minutes and several GB) ..."
	@sed -n '/^uv==/,/[^\\]$$/p' requirements.lock > .venv/uv.txt
	@test "$$($(BIN)/uv --version 2>/dev/null | cut -d ' ' -f 2)" = "$$(sed -n 's/^uv==\([^ ]*\).*/\1/p' .venv/uv.txt)" || \
	  $(BIN)/python -m pip install --quiet --no-deps --require-hashes --requirement .venv/uv.txt
	@VIRTUAL_ENV="$(CURDIR)/.venv" $(BIN)/uv pip sync --quiet --require-hashes --compile-bytecode requirements.lock
	@VIRTUAL_ENV="$(CURDIR)/.venv" $(BIN)/uv pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

# `exec`: a shell in between would die of the SIGTERM that make passes on, and leave the run alone.
reproduce: .venv/complete
	@exec $(BIN)/mlegfn reproduce --scale "$(SCALE)" $(if $(CORES),--cores "$(CORES)") $(if $(ALLOW_CPU),--allow-cpu) \
	  $(if $(RANKS),--ranks "$(RANKS)")

# Files go to workers whole: what a file's tests share is made once.
test: .venv/complete
	@OMP_NUM_THREADS=1 PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m pytest --numprocesses auto --dist loadfile --no-loadscope-reorder

# SCALE only where it was said: without it, everything that is recorded.
restore record verify: .venv/complete
	@exec $(BIN)/mlegfn $@ $(if $(filter-out file,$(origin SCALE)),--scale "$(SCALE)")

# What git tracks is all that a release needs: sources, settings, metrics, tables, figures, provenance.
bundle:
	@mkdir -p build && git archive --format=zip --prefix=mlegfn/ --output=build/mlegfn-$$(git rev-parse --short HEAD).zip HEAD
	@ls build/mlegfn-$$(git rev-parse --short HEAD).zip

report: .venv/complete
	@exec $(BIN)/mlegfn report

clean-scale: .venv/complete
	@test "$(origin SCALE)" != file || { echo "make: say which: make clean-scale SCALE=name" >&2; exit 2; }
	@$(BIN)/mlegfn clean-scale --scale "$(SCALE)"

bench: .venv/complete
	@missed=0; for benchmark in $(BENCHMARKS); do echo "$$benchmark"; OMP_NUM_THREADS=1 PATH="$(CURDIR)/$(BIN):$$PATH" \
	  $(BIN)/python "$$benchmark" $$(grep -q -e '"--scale"' "$$benchmark" && echo --scale "$(SCALE)") || missed=1; done; exit $$missed

docs: .venv/complete
	@$(BIN)/pdoc --docformat restructuredtext --output-directory build/api mlegfn

lock:
	@test -x $(BIN)/uv || { echo "make: .venv/bin/uv not found; make install" >&2; exit 2; }
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	  --no-annotate --no-header --no-emit-index-url --no-emit-find-links \
	  --output-file requirements.lock requirements.in
	@! grep -n '://' requirements.lock || { echo "make: an address in requirements.lock" >&2; exit 1; }
