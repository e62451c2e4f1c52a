# The few commands. Each is one line into tools/, which also works where make is not installed.
STACK = local
MACHINE = sh tools/machine.sh

.DEFAULT_GOAL := help
.PHONY: help setup up preview down replay test test-lifecycle check lock clean cluster cluster-down test-kube

help: ## Show this list
	@sed -n 's/^\([a-z-]*\):.*## /  make \1  |/p' Makefile | awk -F'|' '{ printf "%-23s%s\n", $$1, $$2 }'
	@echo "  STACK=dev picks another environment of stacks/ (here: $(STACK))."

setup: ## Make this machine able: .venv and the Pulumi engine
	@$(MACHINE) setup

up: ## Set up, deploy the stack, wait for a served model, show a prediction
	@$(MACHINE) up --stack '$(STACK)'

preview: ## Show what `up` would change
	@$(MACHINE) preview --stack '$(STACK)'

down: ## Destroy the stack; the artifact store stays
	@$(MACHINE) down --stack '$(STACK)'

replay: STACK = replay
replay: ARGS = --until 2014-01-02
replay: ## Live through March to December 2013 day by day, in a stack of its own (ARGS= goes to `stackyard replay`)
	@$(MACHINE) replay --stack '$(STACK)' -- $(ARGS)

test: ## Set up, check, run the tests (ARGS= goes to pytest)
	@$(MACHINE) test -- $(ARGS)

test-lifecycle: ## Kills at every engine event, faults under leased clusters, two stacks, a moved checkout (40 minutes)
	@$(MACHINE) test-lifecycle -- $(ARGS)

cluster: ## A real one-node Kubernetes on this machine (root; ARGS= status, --profile kwok, --addresses BLOCK)
	@$(MACHINE) cluster $(ARGS)

cluster-down: ## End it without a trace (ARGS='--profile kwok' ends the other)
	@$(MACHINE) cluster down $(ARGS)

test-kube: ## A real run of the cluster: up, Ray pods, kills, down, nothing left (root)
	@$(MACHINE) test-kube -- $(ARGS)

check: ## Lint, format, types, import contracts
	@$(MACHINE) check

lock: ## Resolve requirements.in again into the hashed lock
	@$(MACHINE) lock

clean: ## Remove .venv and the tools' caches; stacks, data and models stay
	@$(MACHINE) clean
