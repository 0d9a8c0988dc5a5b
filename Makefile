# `make run` and `make test` need nothing but Python 3.11 or later. `make help` lists the rest.

PYTHON ?= python3
USERS ?= 1

bin := .venv/bin
setup = command -v $(PYTHON) >/dev/null || { echo "Python 3.11 or later is needed: $(PYTHON) was not found." >&2; exit 1; }; \
	$(PYTHON) -I aevon/bootstrap.py
app = $(setup) requirements.txt
tools = $(setup) tests/requirements.txt
# Much of the suite waits. Each process has servers of its own; a file's tests stay together. Other
# servers than its own are for one alone.
others = $(DATABASE_URL)$(DRAGONFLY_URL)
two_at_a_time = $(if $(others),-n 0,-n 2 --dist loadfile --no-loadscope-reorder)
secret = $$($(bin)/python -c 'import secrets; print(secrets.token_urlsafe(48))')
production = AEVON_ENV=production DJANGO_SECRET_KEY=$(secret) JWT_SIGNING_KEY=$(secret)

.PHONY: help run demo test test-faults beep-eval browser screenshots soak coverage bench check docs format clean
.DEFAULT_GOAL := help

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# exec: Ctrl-C goes to the supervisor alone, and make adds nothing to its last words.
run: ## servers, migrations, demo users, web, worker, beat and listener, until Ctrl-C
	@$(app) && exec $(bin)/python -m aevon.run

demo: ## tell the story against the running site (USERS=1000 for a crowd)
	@$(app) && exec $(bin)/python -m aevon.demo --users $(USERS)

test: ## the whole suite, on servers of its own
	@$(tools) && exec $(bin)/python -m pytest $(two_at_a_time)

test-faults: ## the whole site while things break: the table of docs/reliability.md
	@$(tools) && exec $(bin)/python -m pytest -m 'faults and not soak' tests/faults tests/hostile

beep-eval: ## how well BEEP understands: accuracy per phenomenon, confusion, every failure
	@$(tools) && exec $(bin)/python -m pytest -s -q tests/beep/test_dialogues.py

screenshots: ## the page at 1440 and 375 px, by night and by day, into docs/ (needs chromium)
	@$(tools) && exec $(bin)/python -m tests.browser.screenshots

browser: ## the page in Chromium, with axe-core where `npm ci --prefix tests/browser` has put it
	@$(tools) && exec $(bin)/python -m pytest -m browser tests/browser

soak: ## an hour of faults, load and every interleaving: the figures of docs/reliability.md
	@$(tools) && exec $(bin)/python -m pytest -s -m soak

coverage: ## the tests of the cache layer and of the services, measured: 95 % of both
	@$(tools)
	@$(bin)/python -m pytest -q $(two_at_a_time) --cov --cov-report= \
		tests/cache tests/canvas tests/auth_sessions tests/klepsydra tests/beep tests/operations
	@$(bin)/python -m coverage report --fail-under=95 --include='aevon/cache/*,*/services.py'

bench: ## each figure beside its limit and its peers, into docs/benchmarks.md (FIGURES=P1: printed)
	@$(setup) benchmarks/requirements.txt .venv-bench && exec .venv-bench/bin/python -m benchmarks $(FIGURES)

check: ## style, types, imports, migrations and the production settings
	@$(tools)
	$(bin)/ruff check .
	$(bin)/ruff format --check .
	$(bin)/mypy
	$(bin)/lint-imports
	@echo "manage.py makemigrations --check"
	@$(production) $(bin)/python -W ignore::RuntimeWarning manage.py makemigrations --check --dry-run
	@echo "manage.py check --deploy"
	@$(production) $(bin)/python manage.py check --deploy --fail-level WARNING

docs: ## the documentation site into site/, every warning and dead link an error
	@$(tools) && NO_MKDOCS_2_WARNING=1 $(bin)/python -m mkdocs build --strict --quiet

format: ## let ruff put the code in order
	@$(tools)
	$(bin)/ruff check --fix .
	$(bin)/ruff format .

clean: ## remove what tools left behind (not .venv or .venv-bench, not your data in .aevon)
	rm -rf .coverage .coverage.* htmlcov .mypy_cache .ruff_cache .pytest_cache .hypothesis \
		.import_linter_cache staticfiles site
	find . -name __pycache__ -type d -not -path './.venv*/*' -prune -exec rm -rf {} +
