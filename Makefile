# Each target makes its own .venv when there is none, when requirements.txt changed, or when Python did.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python

# Programs that start hundreds of times are not to be compiled each time.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: venv demo ring cluster watch test test-short test-lossy lint sim sim-chord sim-picture mutants soak bench bench-peers grade zoo pictures clean

# After it, and `. .venv/bin/activate`, the scripts run as the README has them.
venv: $(VENV)/ready

demo: $(VENV)/ready
	$(RUN) demo.py

# Lab 5's ring or lab 6's cluster in one terminal, until Ctrl-C: make ring N=6 M=5, make cluster N=3
# Or both, and a live page of each: make watch
ring cluster watch: $(VENV)/ready
	@$(RUN) tests/start.py $@$(if $(N), -n $(N))$(if $(M), -m $(M))

test: $(VENV)/ready
	$(RUN) -m pytest

# Every core, and a script of each lab: what may differ from one Python to the next.
SHORT := tests/lab0*/test_core.py \
	$(addprefix tests/lab01/test_,messages.py sessions.py) \
	$(addprefix tests/lab05/test_,registry.py registry_restarts.py place.py rules.py node.py) \
	$(addprefix tests/lab06/test_,replication.py storage.py) \
	tests/all_labs/test_house.py::test_a_copy_of_the_folder_elsewhere_runs_from_anywhere \
	tests/lab01/test_scripts.py::test_a_file_survives_a_network_that_loses_doubles_and_reorders \
	tests/lab02/test_scripts.py::test_the_client_prints_every_number_in_the_lists_order \
	tests/lab03/test_scripts.py::test_a_command_from_the_terminal_is_answered \
	tests/lab04/test_scripts.py::test_a_session_of_the_assignment \
	tests/lab05/test_scripts.py::test_the_example_of_the_assignment_holds_to_the_letter \
	tests/lab06/test_scripts.py::test_every_server_names_the_same_leader_to_a_client
test-short: $(VENV)/ready
	LABS_EXEC=1 $(RUN) -m pytest -q $(SHORT)

# The labs with timers of their own while loopback loses 2 % of all packets (Linux).
LOSS ?= 2
LOSSY ?= tests/lab01 tests/lab05 tests/lab06
OWN_NETWORK := unshare --net $(if $(filter-out 0,$(shell id -u)),--map-root-user)
test-lossy: $(VENV)/ready
	$(OWN_NETWORK) $(RUN) -m tests.support.namespaces $(LOSS) $(RUN) -m pytest $(LOSSY)

# Lab 6 in virtual time, its core and then its servers; a failure names its seed.
SEEDS ?= 10000
SERVER_SEEDS ?= 1000
sim: $(VENV)/ready
	$(RUN) -m tests.sim_raft_core $(SEEDS)
	$(RUN) -m tests.sim_raft_servers $(SERVER_SEEDS)

# One run as a page to look at: make sim-picture SEED=7, make sim-picture LAB=5 SCENARIO=storm
# Or an order of events that breaks lab 6's rules, if there is one: SEED=elections, SEED=log
SEED ?= 0
sim-picture: $(VENV)/ready
	$(RUN) -m tests.sim_picture $(or $(LAB),6) $(SEED)$(if $(SCENARIO), --only "$(SCENARIO)")

# Lab 5's rings in virtual time: so many seeds of every scenario.
CHORD_SEEDS ?= 100
sim-chord: $(VENV)/ready
	$(RUN) -m tests.sim_chord $(CHORD_SEEDS)

# Random changes to a lab, as cosmic-ray makes them: make mutants LAB=1 SAMPLE=100 SEED=0
SAMPLE ?= 100
mutants: $(VENV)/mutants
	$(RUN) -m tests.mutants $(word $(or $(LAB),1),udp tcp zeromq grpc_service chord raft) \
		--sample $(SAMPLE) --seed $(SEED)

$(VENV)/mutants: $(VENV)/ready tests/mutants/requirements.txt
	$(RUN) -m pip install --quiet --disable-pip-version-check -r tests/mutants/requirements.txt
	touch $@

# Faults planted in a lab, one at a time; each must be found by a test (all of them take minutes).
mutants-%: $(VENV)/ready
	$(RUN) -m tests.mutants $* $(if $(ONLY),--only "$(ONLY)")

# Attacks on all labs that take minutes each: make soak, or make soak ATTACKS="lab05 lab06.chaos" SCALE=0.1
SCALE ?= 1
soak: $(VENV)/ready
	$(RUN) -m tests.soak $(ATTACKS) --scale $(SCALE)

# Every lab beside its limit and its peers, into bench-results/: make bench, or make bench BENCH="1 3"
bench: $(VENV)/bench
	$(RUN) -m tests.benchmarks $(BENCH)

# The peers that do not come from PyPI.
DEBIAN_PEERS := tftpd-hpa atftp curl etcd-server
SUDO := $(if $(filter-out 0,$(shell id -u)),sudo)
bench-peers: $(VENV)/bench
	@command -v apt-get >/dev/null || { echo "There is no apt-get here; install yourself: $(DEBIAN_PEERS)" >&2; exit 1; }
	$(SUDO) apt-get update --quiet
	$(SUDO) apt-get install --yes --no-install-recommends $(DEBIAN_PEERS)

# Anybody's solutions, graded: make grade SUBS=submissions OUT=grades, or with JOBS=4.
JOBS ?= 2
LABS ?= 1,2,3,4,5,6
grade: $(VENV)/ready
	$(RUN) -m tests.grading $(SUBS) $(OUT) --jobs $(JOBS) --labs $(LABS)

# The grader against our labs, a plain second implementation and planted bugs; or ZOO="1 6".
zoo: $(VENV)/ready
	$(RUN) -m tests.grading.zoo $(ZOO) --jobs $(JOBS)

# The pictures in the READMEs, drawn anew; needs chromium and chromedriver.
pictures: $(VENV)/ready
	$(RUN) -m tests.pictures

lint: $(VENV)/ready
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .

clean:
	rm -rf $(VENV)

# A .venv whose interpreter no longer finds its packages (Python upgraded, folder moved) is made again.
ifneq ($(shell test -x $(RUN) && $(RUN) -c 'import pytest, ruff' 2>&1 || echo no),)
.PHONY: $(VENV)/ready
endif

# So is one of another Python than the one that PYTHON names, if it is given.
WHICH := 'import sys; print(sys.base_prefix, sys.version_info[:3])'
ifneq ($(origin PYTHON),file)
ifneq ($(shell $(PYTHON) -c $(WHICH) 2>&1),$(shell test -x $(RUN) && $(RUN) -c $(WHICH)))
.PHONY: $(VENV)/ready
endif
endif

$(VENV)/ready: requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
		{ echo "Needs Python 3.10 or later, not $$($(PYTHON) --version 2>&1): make PYTHON=python3.12" >&2; exit 1; }
	rm -rf $(VENV)
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "On Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
	$(RUN) -m pip install --quiet --disable-pip-version-check -r requirements.txt
	touch $@

# One by one, so that a package which this Python cannot have keeps no other one out.
$(VENV)/bench: $(VENV)/ready tests/benchmarks/requirements.txt
	-grep -v '^#' tests/benchmarks/requirements.txt | xargs -n 1 $(RUN) -m pip install --quiet --disable-pip-version-check
	touch $@
