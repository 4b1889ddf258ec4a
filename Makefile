# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Every target is one call of tests/tools/gates, which sees to packages and tools itself.
GATES := sh tests/tools/gates.sh
ONLY ?=
SECONDS ?= 600

.DEFAULT_GOAL := help
.PHONY: help setup demo test bench fuzz lint sanity units integration browser build docs clean lab-down

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' Makefile

setup: ## install what demo and test need, and nothing else
	@$(GATES) setup

demo: ## start the lab and remediate it: the whole job, on real hypervisors (root)
	@$(GATES) demo

test: ## pass everything (root); ONLY=lint,units picks gates or groups
	@$(GATES) test $(ONLY)

bench: ## the speed ratios, measured in one run (root)
	@$(GATES) bench

fuzz: ## look for new ways through the proxy's protocol; SECONDS=600
	@$(GATES) fuzz max_total_time=$(SECONDS) max_len=2048

lint: ## formatters, linters, types, documentation, licences
	@$(GATES) test lint

sanity: ## ansible-test sanity on the oldest and the newest ansible-core
	@$(GATES) test sanity

units: ## unit and fuzz tests, by pytest and by ansible-test on every Python
	@$(GATES) test units

integration: ## the tests on real hypervisors (root)
	@$(GATES) test integration

browser: ## the tests in a real browser (root)
	@$(GATES) test browser

build: ## build the tarball, install it elsewhere, import it as Galaxy does
	@$(GATES) test build

docs: ## bring the generated parts of README.md up to date
	@$(GATES) docs

lab-down: ## end a lab that was left running (root)
	@$(GATES) lab-down

clean: lab-down ## remove the cache (lab, venvs, built QEMU)
	@$(GATES) clean
