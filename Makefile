# Every target that needs the environment makes it first: scripts/setup.sh skips what is already done.
SHELL := bash
.DEFAULT_GOAL := help
.PHONY: help setup demo test lint bench clean

bin := .venv/bin

help: ## these lines
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-7s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## system packages, .venv, ROS 2 and the workspace; a second run does nothing
	@scripts/setup.sh $(parts)

demo: setup ## the simulated graph with the shipped bundle on five scenes, and a report with a video
	@$(bin)/visarl demo

test: parts := browser
test: setup ## the whole test suite, then lint
	@OMP_NUM_THREADS=1 $(bin)/python -m pytest
	@$(MAKE) --no-print-directory lint

lint: setup ## ruff, and types on visarl/
	@$(bin)/ruff check .
	@$(bin)/mypy

bench: setup ## latency, rates, memory, each beside what it is compared with; JSON in runs/bench.json
	@$(bin)/python -m bench

clean: ## remove the environment and everything built; recordings and results in runs/ stay
	rm -rf .venv ros2_ws/build ros2_ws/install ros2_ws/log .pytest_cache .mypy_cache .ruff_cache *.egg-info
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +
