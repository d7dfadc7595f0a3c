# `make` lists the commands. Each that needs .venv makes it first, with scripts/install.sh.
# ARGS adds arguments: make test ARGS="-k ledger", make quickstart ARGS="training.steps=10".

export RAY_USAGE_STATS_ENABLED := 0
export VLLM_NO_USAGE_STATS := 1

BIN := .venv/bin
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help install quickstart test check bench bench-tools bench-peers study docs clean

help: ## list the commands
	@sed -nE 's/^([a-z-]+):.*## (.*)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 18

install: ## make .venv and install everything into it; nothing where that is done
	@scripts/install.sh

quickstart: install ## train a tiny orchestrator, evaluate it, print the table, write the report
	$(BIN)/orchestra train --config configs/quickstart.yaml name=quickstart-$$(date +%Y%m%d-%H%M%S) $(ARGS)

test: ## run every test that needs no GPU, in two processes
	@scripts/install.sh tests
	$(BIN)/pytest --numprocesses 2 --dist loadfile $(ARGS)

check: install ## lint, check the formatting, check the types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

bench: install ## time the phases of a step beside plain vLLM
	$(BIN)/python benchmarks/step.py $(ARGS)

bench-tools: install ## time a tool call beside plain Ray, threads and HTTP; sandbox, search, spend
	$(BIN)/python benchmarks/tools.py $(ARGS)

bench-peers: install ## compare loss and advantages with TRL's and verl's, in an environment beside
	benchmarks/peers/run.sh $(ARGS)

study: install ## train with three seeds, show what the paper claims, write docs/results.md
	-@benchmarks/peers/install.sh
	$(BIN)/python benchmarks/study.py $(ARGS)

docs: ## draw docs/architecture.svg again, with graphviz
	dot -Tsvg docs/architecture.dot -o docs/architecture.svg

clean: ## remove .venv, build outputs and caches; runs stay
	rm -rf .venv benchmarks/peers/.venv build dist *.egg-info .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
