# make demo   sets everything up and runs a simulated city through the whole chain
# make test   sets everything up and runs lint, types and tests

PYTHON ?= python3
VELIB = .venv/bin/velib

.PHONY: demo test lint slow bench clean

demo: .venv
	$(VELIB) demo

test: .venv lint
	.venv/bin/python -m pytest --numprocesses 2 --dist loadfile

lint: .venv
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/lint-imports

slow: .venv
	.venv/bin/python -m pytest -m slow

bench: .venv
	for bench in benchmarks/bench_*.py; do .venv/bin/python $$bench || echo "$$bench: a figure is missed"; done

.venv: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed; name one with make PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || \
	  { echo "This Python cannot make environments; on Debian: apt-get install python3-venv"; exit 1; }
	test -x .venv/bin/python || $(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --require-hashes --requirement constraints.txt
	.venv/bin/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	touch .venv

clean:
	rm -rf .venv build out .mypy_cache .ruff_cache .pytest_cache .hypothesis
