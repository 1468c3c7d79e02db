# Two commands from nothing: `make quickstart` and `make test`. Everything else: `make help`.
PYTHON ?= python3
VENV := .venv/bin
STORE ?= m2r-store
MKDOCS := .venv-docs/bin/mkdocs --quiet build --strict
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

# Byte code is written once and read by every later process: an import of torch and transformers
# takes 4 CPU-seconds with it and 10 without.
unexport PYTHONDONTWRITEBYTECODE
# The project is installed in .venv; nothing of a surrounding environment belongs into it.
unexport PYTHONPATH VIRTUAL_ENV

# Runs every command although one fails, so that one pass shows all that is wrong.
all_of = status=0; for command in $(1); do echo "+ $$command"; $(VENV)/$$command || status=1; done; exit $$status

.PHONY: help
help:  ## show this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-15s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

##@ Use
.PHONY: setup setup-dev setup-bench quickstart
setup:  ## make .venv with all that `m2r run` needs (no root, no compiler)
	@$(PYTHON) tools/setup_env.py run

setup-dev:  ## the same with the tools for tests and checks
	@$(PYTHON) tools/setup_env.py dev

.PHONY: setup-rollout
setup-rollout:  ## make .venv-rollout: the same as setup-dev, with vLLM for CPUs
	@$(PYTHON) tools/setup_env.py rollout-cpu

.PHONY: setup-docs docs
setup-docs:  ## make .venv-docs, which builds the documentation site
	@$(PYTHON) tools/setup_env.py docs

docs: setup-docs  ## the documentation as a site in site/; dead links fail
	@NO_MKDOCS_2_WARNING=1 $(MKDOCS)

setup-bench:  ## the same with the libraries that the benchmarks compare with
	@$(PYTHON) tools/setup_env.py bench

quickstart: setup  ## synthesis, SFT, RLVR and evaluation on this machine, with a report
	@mkdir -p $(STORE)
	@$(VENV)/m2r run -f examples/quickstart/ --store ./$(STORE) \
	  --summary $(STORE)/summary.json --report quickstart-report.html

##@ Check
.PHONY: test test-fast test-cluster check verify
test:  ## set up from nothing, then checks and all tests; fails if a class of tests did not run
	@MAKE="$(MAKE)" $(PYTHON) tools/run_tests.py

test-fast: setup-dev  ## the tests that take seconds
	@OMP_NUM_THREADS=1 $(VENV)/python -m pytest -n 2 -m "not slow and not gpu and not cluster and not rollout"

.PHONY: test-rollout test-gpu
test-rollout: setup-rollout  ## the tests that run vLLM on the CPU
	@OMP_NUM_THREADS=1 .venv-rollout/bin/python -m pytest -n 0 -m rollout

test-gpu:  ## the tests on a GPU, in the environment that PYTHON belongs to (requirements/trainer.lock)
	@$(PYTHON) -m pytest -n 0 -m gpu tests/gpu

test-cluster: setup-dev  ## the tests on a real Kubernetes node (root); WHOLE=1: the quickstart in full
	@$(if $(WHOLE),M2R_WHOLE=1) $(VENV)/python -m pytest -n 0 -m cluster

check: setup-dev  ## lint, format, types, import contracts
	@$(call all_of,"ruff check ." "ruff format --check ." "mypy" "lint-imports")

verify: setup-dev setup-docs  ## locks, CRDs, chart, generated docs are what their sources say; the site builds
	@NO_MKDOCS_2_WARNING=1; export NO_MKDOCS_2_WARNING; \
	$(call all_of,"python tools/lock.py check" "m2r crds --check" "python tools/chart.py check" "python tools/dashboards check" "python tools/experiments page --check" "../../$(MKDOCS)")

##@ Cluster
.PHONY: cluster-up cluster-down
cluster-up:  ## a real one-node Kubernetes on this machine (root); PROMETHEUS=1 adds Prometheus
	@$(PYTHON) tools/cluster up $(if $(PROMETHEUS),--prometheus)

cluster-down:  ## remove that node and every trace of it
	@$(PYTHON) tools/cluster down

##@ Images
.PHONY: images
images:  ## build m2r-operator and m2r-train (CPU) without a Docker engine (root); OUT=DIR copies them
	@$(PYTHON) tools/images build operator trainer-cpu $(if $(OUT),--out $(OUT))

##@ Change
.PHONY: fmt crds chart lock clean
fmt: setup-dev  ## format, and fix what lint can fix
	@$(VENV)/ruff format .
	@$(VENV)/ruff check --fix .

crds: setup-dev  ## write crds/ and docs/reference/ from m2r_train/api
	@$(VENV)/m2r crds

chart: crds  ## write the generated parts of charts/m2r, docs/metrics.md
	@$(VENV)/python tools/chart.py write
	@$(VENV)/python tools/dashboards write

lock:  ## resolve requirements/*.lock again; UPGRADE=1 takes newer versions
	@$(PYTHON) tools/lock.py write $(if $(UPGRADE),--upgrade)

clean:  ## remove .venv and caches in the tree; stores, reports and the user's cache stay
	@rm -rf .venv .venv-rollout .venv-docs site .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache dist

##@ Measure
.PHONY: experiments experiments-page
experiments: setup-dev  ## run what has no result yet of examples/experiments, write docs/experiments.md
	@$(VENV)/python tools/experiments run $(ARGS)
	@$(VENV)/python tools/experiments page

experiments-page: setup-dev  ## docs/experiments.md and its pictures, from bench/results/experiments
	@$(VENV)/python tools/experiments page

.PHONY: bench-sim bench-rewards bench-rlvr bench-rlvr-larger bench-sft bench-logprobs bench-losses bench-resume
.PHONY: bench-recovery bench-operator bench-checkpoint bench-scorers bench-answers bench-synthesis bench-healthy
bench-sim: setup-bench  ## pictures, videos and questions a second; 10 000 labels checked again
	@$(VENV)/python bench/bench_sim.py
	@$(VENV)/python bench/bench_spatial.py

bench-rewards: setup-bench  ## rewards a second and agreement, against other libraries
	@$(VENV)/python bench/bench_rewards.py

bench-answers: setup-bench  ## equivalence of answers: agreement and speed against math-verify, hostile texts
	@$(VENV)/python bench/bench_answers.py

bench-synthesis: setup-bench  ## a synthesis job: time, memory, faults; WHOLE=1: 10,000 and 100,000
	@$(VENV)/python bench/bench_synthesis.py $(if $(WHOLE),--whole)

bench-scorers: setup-dev  ## time of every benchmark's rules on texts written to stall them
	@$(VENV)/python bench/bench_scorers.py

bench-rlvr: setup-bench  ## completions a second of a GRPO step, against TRL
	@$(VENV)/python bench/bench_rlvr.py

bench-rlvr-larger: setup-bench  ## the same on a model of 100 million parameters
	@$(VENV)/python bench/bench_rlvr.py --model larger

bench-sft: setup-bench  ## trained tokens a second of multimodal SFT, against TRL
	@$(VENV)/python bench/bench_sft.py

bench-logprobs: setup-dev  ## peak memory and time of log-probabilities, against the plain way
	@$(VENV)/python bench/bench_logprobs.py

bench-losses: setup-bench  ## losses, corrections and penalties on fixed tensors, against TRL's code
	@$(VENV)/python bench/bench_losses.py

bench-resume: setup-bench  ## what a kill costs: lost steps and seconds until the next one
	@$(VENV)/python bench/bench_resume.py

bench-healthy: setup-dev  ## half an hour of a healthy run under a real Prometheus: no alert fires
	@$(VENV)/python bench/bench_healthy.py $(ARGS)

bench-checkpoint: setup-dev  ## what a checkpoint keeps training waiting for
	@$(VENV)/python bench/bench_checkpoint.py

bench-recovery: setup-dev  ## the same on a cluster: pods taken away, until the next commit (root)
	@$(VENV)/python bench/bench_recovery.py

bench-operator: setup-dev  ## create to Job, writes a run, memory, restart of the operator (root)
	@$(VENV)/python bench/bench_operator.py

.PHONY: bench-gpu
bench-gpu:  ## one GPU: a GRPO step against its bound, in the environment that PYTHON belongs to
	@PYTHONPATH=. $(PYTHON) bench/bench_gpu.py $(ARGS)

.PHONY: bench-vllm
bench-vllm: setup-rollout  ## generation against bare vLLM's, and the share of weight transfer
	@.venv-rollout/bin/python bench/bench_vllm.py

.PHONY: bench-ranks
bench-ranks: setup-dev  ## steps with two processes of one thread, against one process of one thread
	@$(VENV)/python bench/bench_ranks.py

.PHONY: bench-metrics bench-report
bench-metrics: setup-dev  ## series and seconds of a pod's scrape, and metrics' share of a step
	@$(VENV)/python bench/bench_metrics.py

bench-report: setup-dev  ## seconds and size of the report of a run of 1,000 steps
	@$(VENV)/python bench/bench_report.py
