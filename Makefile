# Two commands on a bare machine with Python 3.11 to 3.13: make demo, make test.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
KAFKA ?= embedded
# Three at a time, each with a broker of its own; a file's tests stay together. tests/conftest.py orders the files.
THREE := -n 3 --dist loadfile --no-loadscope-reorder

# Some hundred processes are started, each of which would compile the package anew: a fifth of what a start costs.
unexport PYTHONDONTWRITEBYTECODE

ROUNDS ?= 100
SEED ?= 1
SECONDS ?= 120
MINUTES ?= 120

.PHONY: image compose cluster upgrade sinks demo test bench faults check docs chaos soak surfaces mutants format lock sbom release clean

# DRIFT=1: from July on a feature means something else, and the service says so. UPGRADE=1: in July the model becomes
# another one, while flights come. SERVE=1: flights are asked for over HTTP meanwhile, and answers derived again.
# REPLAY=1: a day with wrong labels is left out by a rollback under load; four models are compared on the last months.
demo: $(VENV)/.demo
	@$(BIN)/stream-ml demo $(if $(DRIFT),--drift) $(if $(UPGRADE),--upgrade) $(if $(SERVE),--serve) $(if $(REPLAY),--replay)

test: $(VENV)/.test check
	$(BIN)/python -m pytest --kafka=$(KAFKA) $(THREE)

# Workers, brokers and disks fail for ROUNDS rounds; the last line is JSON. 100 rounds take about half an hour.
# HOSTILE=1: while somebody sends absurd numbers, false times, made-up texts and ghosts beside the honest producers.
# SERVE=1: beside two replicas of the API that record what they answer, and are killed as well.
# NODES=3: on three brokers, of which one dies at a time. STORE=s3: checkpoints in an object store too, machines go.
chaos: $(VENV)/.test
	@$(BIN)/python -m tests.system.chaos.storm --rounds $(ROUNDS) --seed $(SEED) $(if $(HOSTILE),--hostile) $(if $(SERVE),--serve) \
	  $(if $(STORE),--store $(STORE)) $(if $(NODES),--nodes $(NODES))

# What every surface says while six things go wrong under load, one after the other, each for SECONDS.
surfaces: $(VENV)/.test
	@$(BIN)/python -m tests.system.chaos.surfaces --seconds $(SECONDS)

# Each planted bug must be caught by a test; prints the table. About half an hour.
mutants: $(VENV)/.test
	@$(BIN)/python -m tests.system.mutations.run

# One fault at a time, each on a real broker: every fail point, poison, floods, oversized records, lost answers.
# And what takes long: more seeds, schedules and programs of what `make test` tries.
faults: $(VENV)/.test
	$(BIN)/python -m pytest --kafka=$(KAFKA) $(THREE) -m long

# The service beside the client library's limit and its peers, and how far each measure reaches; QUICK=1: six minutes,
# else up to an hour. The peers' environments are made in .bench.
bench: $(VENV)/.test
	@$(BIN)/python -m benchmarks $(if $(QUICK),--quick)

# Steady work for MINUTES: a line a minute, memory's slope with its interval, an audit in the end.
soak: $(VENV)/.test
	@$(BIN)/python -m benchmarks.endurance $(MINUTES)

# One image for every verb; VARIANT=slim: without the scoring API, VARIANT=demo: with the flights.
image:
	docker build -f deploy/docker/Dockerfile $(if $(VARIANT),--build-arg VARIANT=$(VARIANT)) -t stream-ml$(if $(VARIANT),:$(VARIANT)) .

# The composed service, asked while flights are played and each part is killed; needs Docker. THREE=1: three brokers.
compose: $(VENV)/.test
	@$(BIN)/python -m tests.system.containers.compose $(if $(THREE),--three)

# Predictions and labels in PostgreSQL by Kafka Connect, each part killed meanwhile; needs the package postgresql.
sinks: $(VENV)/.test
	@$(BIN)/python -m tests.system.sinks

# Pods on a real Kubernetes; HOST: under which pods reach this machine, LOAD: brings an image onto the nodes.
LOAD ?= kind load docker-image {}
cluster: $(VENV)/.test
	@$(BIN)/python -m tests.system.containers.cluster --host $(HOST) --load "$(LOAD)"

# Workers and APIs of the commit FROM are replaced by this one's under load, and back; the last line is JSON.
upgrade: $(VENV)/.test
	@$(BIN)/python -m tests.system.upgrades.rolling --from $(FROM)

check: $(VENV)/.test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# The documents as a site: .site/index.html.
docs: $(VENV)/.test
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

format: $(VENV)/.test
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# What a release is installed from, each file by its digest; the licences of all of it; and its bill of materials.
LOCK = .release/bin/uv pip compile --quiet -c constraints.txt --generate-hashes --universal --python-version 3.11 \
  --no-emit-index-url --no-header --no-annotate

lock: .release/.done
	@$(LOCK) pyproject.toml --extra demo -o deploy/requirements.txt
	@$(LOCK) pyproject.toml --extra serve --extra grpc --extra jwt --extra otel --extra s3 -o deploy/docker/requirements-full.txt
	@$(LOCK) pyproject.toml --extra s3 -o deploy/docker/requirements-slim.txt
	@$(LOCK) pyproject.toml --extra serve --extra grpc --extra jwt --extra otel --extra s3 --extra flights -o deploy/docker/requirements-demo.txt
	@echo 'hatchling>=1.27' | $(LOCK) - -o deploy/docker/requirements-build.txt

sbom: .release/.done
	@$(PYTHON) -m venv --clear .release/app
	@.release/app/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r deploy/requirements.txt
	@.release/app/bin/python -m pip install --quiet --disable-pip-version-check --no-deps .
	@mkdir -p dist
	@.release/bin/cyclonedx-py environment .release/app --pyproject pyproject.toml --of JSON -o dist/sbom.json
	@.release/bin/python deploy/third_party.py dist/sbom.json

# What is published of a version, built twice and tried; refused where the changelog says nothing of it.
release: .release/.done
	@$(PYTHON) deploy/release.py $(VERSION)

clean:
	rm -rf $(VENV) .release

# Newer than pip's own from Python 3.11 to 3.12: dependency groups (PEP 735) came with 25.1.
$(VENV)/.pip: constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if (3, 11) <= v < (3, 14) else f"stream_ml needs Python 3.11 to 3.13, and {sys.executable} is {v[0]}.{v[1]}: make PYTHON=python3.12 ...")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt 'pip>=25.1'
	@touch $@

$(VENV)/.demo: $(VENV)/.pip pyproject.toml
	@echo "installing into $(VENV) (a minute or two, only the first time)" >&2
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[demo]'
	@touch $@

$(VENV)/.test: $(VENV)/.demo
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --group test
	@touch $@

.release/.done: pyproject.toml
	@$(PYTHON) -m venv .release
	@.release/bin/python -m pip install --quiet --disable-pip-version-check 'pip>=25.1'
	@.release/bin/python -m pip install --quiet --disable-pip-version-check --group release
	@touch $@
