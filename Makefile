# A target that needs the environment makes it first: `make run` and `make test` work on a fresh clone.
SHELL := /bin/sh
.DEFAULT_GOAL := help
VENV := .venv
PY := $(VENV)/bin/python
JOBS ?= $(shell getconf _NPROCESSORS_ONLN)
export JAX_PLATFORMS ?= cpu

# nbval compares stored outputs in the pinned environment only; elsewhere it just runs the notebooks
NBVAL = $$($(PY) -c "import sys; print('--nbval' if sys.version_info[:2] == (3, 11) else '--nbval-lax')") \
	--nbval-current-env --nbval-cell-timeout=120 --nbval-sanitize-with=tests/nbval.cfg
# a thread for each worker: those of PyTorch wait for each other in a loop, and take the cores from the other workers
PYTEST = OMP_NUM_THREADS=1 $(PY) -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder
# what has a target of its own: kept answers, the classroom, programs in several processes
CHECKED = --doctest-modules course tests --ignore=tests/answers --ignore=tests/classroom --ignore=tests/processes
STRUCTURES = -m structures tests/structures
# ten minutes on two cores hold the lessons up to 12, and the package; the others, which compute more, have a target
FIRST = $(wildcard notebooks/0*.ipynb notebooks/1[0-2]*.ipynb)
OTHERS = $(filter-out $(FIRST),$(wildcard notebooks/*.ipynb))
QUICK = "not slow and not thorough"
# the oldest versions; BRIEF=1, for CI on one machine, leaves out whole models, slow tests, the lessons that measure speed,
# and those that rest on jax and the course alone, whose tests run there
FLOOR_LESSONS = $(if $(BRIEF),notebooks/0*.ipynb notebooks/1[3-5]*.ipynb,notebooks/*.ipynb)
FLOOR_TESTS = $(if $(BRIEF),$(QUICK),"rosetta or not thorough")

# whatever has a line of help
.PHONY: $(shell sed -n "s/^\([a-z-]*\):.*\#\# .*/\1/p" $(MAKEFILE_LIST))

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(VENV)/.ready ## create .venv with the pinned packages (every other target does it when needed)

$(VENV)/.ready: requirements.txt pyproject.toml tools/find_python.sh
	@python="$$(PYTHON='$(PYTHON)' sh tools/find_python.sh 3.11 3.12 3.13)" && \
	echo "Setting up $(VENV) with $$python; this downloads 1 GB once, 3 GB with the CUDA build of PyTorch." && \
	"$$python" -m venv $(VENV)
	$(PY) -m pip install --quiet --upgrade pip
	$(PY) -m pip install -r requirements.txt
	$(PY) -m pip install --quiet --no-deps --editable .
	@touch $@

# what only some targets need: requirements/NAME.txt
$(VENV)/.ready-%: requirements/%.txt $(VENV)/.ready
	$(PY) -m pip install --quiet -r $<
	@touch $@

run: $(VENV)/.ready ## execute every lesson into build/run/ and print a table of verdicts
	@$(PY) -m tools.run --jobs $(JOBS)

test: $(VENV)/.ready ## validate lessons 00 to 12 (outputs compared) and the package behind all
	$(PYTEST) $(NBVAL) -m "not benchmark and not structures and not thorough and not book and not doors" $(FIRST) $(CHECKED)

test-lessons: $(VENV)/.ready ## validate lessons 13 to 22 (outputs compared): many machines, high derivatives, science
	$(PYTEST) $(NBVAL) $(OTHERS)

check: $(VENV)/.ready ## the quick part of the tests, without notebook kernels
	$(PYTEST) -p no:nbval -m "not slow and not benchmark and not structures and not book and not doors" $(CHECKED)

test-benchmarks: $(VENV)/.ready-bench ## every benchmark in its quick form
	$(PYTEST) -p no:nbval -m benchmark tests/repo/test_benchmarks.py

test-thorough: $(VENV)/.ready ## the whole Rosetta stone, more random programs, the precision of every elementwise function
	$(PYTEST) --dist load -p no:nbval -m thorough tests/unit

test-exercises: export COURSE_PROGRESS :=
test-exercises: $(VENV)/.ready ## exercises untouched, exercises solved (outputs compared), and every kept answer, wrong or right
	$(PYTEST) $(NBVAL) notebooks/exercises/*.ipynb notebooks/solutions/*.ipynb
	$(PYTEST) --dist loadgroup -p no:nbval tests/answers

test-doors: $(VENV)/.ready-doors ## ways in: kernels as on hosts, Kaggle's tables, Binder, Codespaces, a fork with a new lesson
	$(PYTEST) --dist load -p no:nbval -m doors tests/repo

test-structures: $(VENV)/.ready ## 35 whole models, from PyTorch to NNX, Linen and back
	$(PYTEST) --dist load -p no:nbval $(STRUCTURES)

test-classroom: $(VENV)/.ready-classroom ## twenty submissions, good, bad and hostile; a room without a network (needs bubblewrap)
	$(PYTEST) -p no:nbval -m classroom tests/classroom

test-processes: $(VENV)/.ready ## programs in several processes: launched, killed, continued by more or fewer; who listens where
	$(PY) -m pytest -p no:nbval -m processes tests/processes

test-book: book ## every page of the book in a browser (needs Chromium): a phone, dark mode, keyboard, print, links; and what makes the pages
	$(PYTEST) --dist worksteal -p no:nbval tests/book

test-all: test test-lessons test-exercises test-thorough test-structures test-processes test-benchmarks test-doors test-floor ## test, all lessons, exercises, the thorough ones, whole models, several processes, the benchmarks, the doors, and the same on the oldest supported versions

test-floor: $(VENV)-floor/.ready $(VENV)-floor-313/.ready ## the oldest versions, with torch and (quick tests) without; lessons as on Kaggle and Colab
	UNIT=torch $(VENV)-floor/bin/python -m pytest -n $(JOBS) --dist loadfile -m $(FLOOR_TESTS) \
		--doctest-modules course tests/unit tests/parity
	$(if $(BRIEF),,$(VENV)-floor/bin/python -m pytest -n $(JOBS) $(STRUCTURES))
	@$(VENV)-floor/bin/python -m tools.run --jobs $(JOBS) --host Kaggle --packages $(VENV)-floor/hosted --warnings-are-errors \
		$(basename $(notdir $(wildcard $(FLOOR_LESSONS))))
	@$(VENV)-floor/bin/python -m tools.run --jobs $(JOBS) --host Colab --packages $(VENV)-floor/hosted --openings
	$(VENV)-floor-313/bin/python -m pytest -n $(JOBS) --dist worksteal -m $(QUICK) tests/unit

$(VENV)-floor/.ready: $(VENV)/.ready requirements.txt requirements/floor.txt requirements/hosted.txt pyproject.toml tools/floor.py
	@python="$$(PYTHON='$(PYTHON)' sh tools/find_python.sh 3.11 3.12 3.13)" && "$$python" -m venv $(VENV)-floor
	$(PY) -m tools.floor > $(VENV)-floor/requirements.txt
	$(VENV)-floor/bin/python -m pip install -r $(VENV)-floor/requirements.txt
	$(VENV)-floor/bin/python -m pip install --quiet --no-deps --editable .
	$(VENV)-floor/bin/python -m pip install --quiet --no-deps --upgrade --target $(VENV)-floor/hosted -r requirements/hosted.txt
	@touch $@

# the same without torch, on the newest Python that is supported
$(VENV)-floor-313/.ready: $(VENV)-floor/.ready
	@python="$$(PYTHON='$(PYTHON_NEWEST)' sh tools/find_python.sh 3.13 3.12)" && "$$python" -m venv $(VENV)-floor-313
	grep -v '^torch' $(VENV)-floor/requirements.txt > $(VENV)-floor-313/requirements.txt
	$(VENV)-floor-313/bin/python -m pip install -r $(VENV)-floor-313/requirements.txt
	$(VENV)-floor-313/bin/python -m pip install --quiet --no-deps --editable .
	@touch $@

test-newest: $(VENV)-newest/.ready ## quick tests that need no torch, on the newest jax and flax (Python 3.12 or 3.13)
	$(VENV)-newest/bin/python -m pytest -n $(JOBS) --dist worksteal -m $(QUICK) tests/unit

$(VENV)-newest/.ready: pyproject.toml tools/find_python.sh
	@python="$$(PYTHON='$(PYTHON_NEWEST)' sh tools/find_python.sh 3.13 3.12)" && "$$python" -m venv $(VENV)-newest
	$(VENV)-newest/bin/python -m pip install --editable '.[serve]' matplotlib pytest pytest-xdist hypothesis grain httpx
	@touch $@

test-unpinned: $(VENV)-unpinned/.ready ## the package's tests and every lesson on the newest of everything (Python 3.12 or 3.13)
	$(VENV)-unpinned/bin/python -m pytest -n $(JOBS) --dist loadfile tests/unit tests/parity
	@$(VENV)-unpinned/bin/python -m tools.run --jobs $(JOBS)

$(VENV)-unpinned/.ready: requirements.txt pyproject.toml tools/find_python.sh
	@python="$$(PYTHON='$(PYTHON_NEWEST)' sh tools/find_python.sh 3.13 3.12)" && "$$python" -m venv $(VENV)-unpinned
	grep -oE '^[a-z][a-z-]*' requirements.txt | sort -u > $(VENV)-unpinned/requirements.txt
	$(VENV)-unpinned/bin/python -m pip install --upgrade -r $(VENV)-unpinned/requirements.txt
	$(VENV)-unpinned/bin/python -m pip install --quiet --no-deps --editable .
	@touch $@

BENCHMARKS := titanic_speed tracing_paper operators jets jets_by_hand wave_functions pde_training pde_cost pde_points \
	pde_table pde_waves serving resume

fuzz: $(VENV)/.ready ## 3,000 random programs through course.taylor, float32 to order 8, layers to port (an hour and more)
	$(PY) -m tools.fuzz --jobs $(JOBS)
	FUZZ=1 $(PYTEST) tests/unit/test_taylor_precision.py tests/unit/test_porting_property.py

mutants: $(VENV)/.ready-dev ## plant 300 small faults in course, one by one: do the tests find them? (an hour at most)
	$(PY) -m tools.mutants --jobs $(JOBS)

bench: $(VENV)/.ready-bench ## measure both sides in one run: tables, and JSON in build/bench/
	@for name in $(BENCHMARKS); do echo "== $$name"; $(PY) -m benchmarks.$$name || exit 1; done

# the program's folder stays off the path: it has modules named as others are, and `-m` is for one process alone
train: $(VENV)/.ready ## a small GPT on the course's text, two minutes: make train [PROCESSES=2] [STEPS=2000] [OPTIONS="--width 256"]
	@$(if $(filter-out 1,$(PROCESSES)),PYTHONSAFEPATH=1 PYTHONPATH=. $(PY) -m course.launch --processes $(PROCESSES) \
	examples/language_model/train.py,$(PY) -m examples.language_model.train) $(if $(STEPS),--steps $(STEPS)) $(OPTIONS)

pde: $(VENV)/.ready ## one long run, resumable: make pde DIM=1000000 (or DIM=10000 BODY=waves, OPTIMIZER=adam)
	@$(PY) -m benchmarks.pde_run --dim $(or $(DIM),1000) --body $(or $(BODY),two-body) \
	--optimizer $(or $(OPTIMIZER),natural-gradient)

pde-own: $(VENV)/.ready ## a long run of lesson 21, resumable: make pde-own EQUATION=allen-cahn-coefficients
	@$(PY) -m benchmarks.pde_own --equation $(or $(EQUATION),kuramoto-sivashinsky)

publish-results: $(VENV)/.ready ## copy results into the repository and renew the lessons and README that show them
	@$(PY) -m tools.publish
	@$(PY) -m tools.build

release: $(VENV)/.ready ## check, write CHANGELOG.md, commit and tag: make release VERSION=1.2.0
	@$(PY) -m tools.release "$(VERSION)"

lab: $(VENV)/.ready ## copy the exercises into work/, where answers are safe, and open JupyterLab
	@$(PY) -m tools.lab

progress: $(VENV)/.ready ## which exercises are done
	@$(PY) -c "from course import checks; checks.progress()"

classroom: $(VENV)/.ready-classroom ## what a teacher hands out, and an nbgrader course: build/classroom/
	@$(PY) -m tools.classroom

wheelhouse: $(VENV)/.ready-classroom ## wheels for a room without a network: build/wheelhouse/ (PIP_ARGS="--extra-index-url …")
	@$(PY) -m tools.wheelhouse -- $(PIP_ARGS)

# USER is the login's name in most environments: only what stands after `make kaggle` counts
kaggle: $(VENV)/.ready ## what Kaggle's program uploads: lessons, and the course as a data set, in build/kaggle/: make kaggle USER=name
	@$(PY) -m tools.kaggle "$(if $(filter command,$(origin USER)),$(USER))"

grade: $(VENV)/.ready-classroom ## grade a folder with one folder a student: make grade SUBMISSIONS=folder [OUT=build/grades]
	@$(PY) -m tools.grade "$(SUBMISSIONS)" --out "$(or $(OUT),build/grades)" --jobs $(JOBS) $(if $(TRUSTED),--trusted) $(if $(DUE),--due $(DUE))

build: $(VENV)/.ready ## execute the lessons whose notebooks are stale, and renew README's generated parts
	@$(PY) -m tools.build

book: $(VENV)/.ready-book ## the web book from the committed notebooks, nothing executed: build/book/html/
	@$(PY) -m tools.book

book-serve: book ## the same, served at http://127.0.0.1:8000
	@$(PY) -m http.server --bind 127.0.0.1 --directory build/book/html $(or $(PORT),8000)

rosetta: $(VENV)/.ready ## write ROSETTA.md anew from rosetta/
	$(PY) -m tools.rosetta

handout: $(VENV)/.ready ## two pages to print, from the Rosetta stone: build/handout.html, with a Chromium .pdf (PAPER=letter)
	@$(PY) -m tools.handout $(PAPER)

new-lesson: $(VENV)/.ready ## a lesson with exercises and checks, all but the words: make new-lesson NUMBER=23 NAME=my_topic
	@$(PY) -m tools.new_lesson "$(NUMBER)" "$(NAME)"

adopt: $(VENV)/.ready ## carry edits of a notebook back to its source: make adopt NB=path.ipynb
	@$(PY) -m tools.adopt "$(NB)"

dataset: $(VENV)/.ready ## regenerate the files in data/ and check their hashes
	$(PY) data/make_titanic.py
	$(PY) data/make_crepe.py

guards: $(VENV)/.ready ## what must hold for sources, notebooks, package and pages: faults and remedies, in seconds
	@$(PY) -m tools.guards

links: $(VENV)/.ready ## ask every external link whether it answers (needs a network)
	@$(PY) -m tools.links

lint: $(VENV)/.ready-dev ## ruff on package, tools, tests and lesson sources; mypy on package and examples; spelling
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check course rosetta tools tests data benchmarks examples
	$(VENV)/bin/mypy
	$(VENV)/bin/codespell

hooks: $(VENV)/.ready-dev ## what .pre-commit-config.yaml lists runs before a commit; git compares notebooks cell by cell
	$(VENV)/bin/pre-commit install
	git config diff.jupyternotebook.command "'$(CURDIR)/$(VENV)/bin/git-nbdiffdriver' diff"
	git config merge.jupyternotebook.name "notebooks, cell by cell"
	git config merge.jupyternotebook.driver "'$(CURDIR)/$(VENV)/bin/git-nbmergedriver' merge %O %A %B %L %P"

clean: ## remove what the targets wrote, environments included
	rm -rf $(VENV) $(VENV)-floor $(VENV)-floor-313 $(VENV)-newest $(VENV)-unpinned build dist .pytest_cache .hypothesis .ruff_cache .mypy_cache *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
