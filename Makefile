# make demo   sets everything up and runs a simulated city through the whole chain
# make test   sets everything up and runs lint, types and tests
# make .venv  sets up what the tests need

PYTHON ?= python3
VELIB = .venv/bin/velib

.PHONY: demo test lint slow bench clean .venv

demo: .venv/for-demo
	$(VELIB) demo

test: .venv/for-dev lint
	.venv/bin/python -m pytest --numprocesses 2 --dist loadfile

.venv: .venv/for-dev

lint: .venv/for-dev
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/lint-imports

slow: .venv/for-dev
	.venv/bin/python -m pytest -m slow

bench: .venv/for-dev
	for bench in benchmarks/bench_*.py; do .venv/bin/python $$bench || echo "$$bench: a figure is missed"; done

# Each package is one of constraints.txt, checked by its hash. Compiled once here: each function is a
# process of its own, and all of them would compile the same libraries at their first event.

.venv/for-demo: extras = cli,emulator,report
.venv/for-dev: extras = dev

.venv/for-demo .venv/for-dev: pyproject.toml constraints.txt | .venv/bin/uv
	@echo "Installing the packages that $(subst for-,,$(@F)) needs ($(extras))"
	.venv/bin/uv pip install --python .venv/bin/python --constraints constraints.txt \
	  --build-constraints constraints.txt --compile-bytecode --editable '.[$(extras)]'
	@touch $@

.venv/bin/uv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed; name one with make PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || \
	  { echo "This Python cannot make environments; on Debian: apt-get install python3-venv"; exit 1; }
	@echo "Making the Python environment .venv"
	test -x .venv/bin/python || $(PYTHON) -m venv .venv
	sed -n '/^uv==/,/[^\\]$$/p' constraints.txt > .venv/uv.txt
	.venv/bin/python -m pip install --quiet --require-hashes --requirement .venv/uv.txt

clean:
	rm -rf .venv build out .mypy_cache .ruff_cache .pytest_cache .hypothesis
