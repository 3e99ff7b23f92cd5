# SPDX-License-Identifier: BSD-2-Clause
# The friendly face of the build. `make help` lists what there is; meson does the work.
# Every goal first installs the Debian packages that it needs and that are missing, and says so.

HOST := $(shell uname -m | sed s/aarch64/arm64/)
ARCH ?= $(HOST)
# Another architecture's is cross-built.
BUILD ?= $(if $(filter $(HOST),$(ARCH)),build,build/$(ARCH))
DESTDIR ?=
CROSS = $(filter-out $(HOST),$(ARCH))

# What is typed after a goal, as in `make run CPUS=4`.
RUN_OPTIONS = $(if $(KERNEL),-k $(KERNEL)) $(if $(MEMORY),-m $(MEMORY)) $(if $(CPUS),-c $(CPUS)) \
	$(if $(VERBOSE),--verbose) $(if $(BED),--bed) $(if $(ARGS),-- $(ARGS))
LAB_OPTIONS = $(if $(VERBOSE),--verbose) $(if $(LIST),--list) $(if $(JOBS),--jobs $(JOBS)) $(if $(KEEP_LOGS),--keep-logs)

.PHONY: build run check bench lab format install clean distclean help

build:
	@tools/deps build $(CROSS)
	@tools/build --arch $(ARCH) $(BUILD)

# Leaving by Ctrl-A x (status 20) is no error.
run:
	@tools/run --check $(RUN_OPTIONS)
	@tools/deps run
	@tools/build $(BUILD) trapline
	@tools/run --program $(BUILD)/trapline $(RUN_OPTIONS) || { status=$$?; test $$status = 20 || exit $$status; }

check:
	@tools/deps check $(filter-out $(HOST),arm64)
	@tools/check

bench:
	@tools/deps bench $(CROSS)
	@tools/build --arch $(ARCH) $(BUILD)
	@python3 tests/bench/bench.py --arch $(ARCH) --build $(BUILD) $(if $(JSON),--json $(JSON)) $(BENCH)

lab:
	@tools/deps lab $(CROSS)
	@tools/build --arch $(ARCH) $(BUILD)
	@python3 tests/lab/lab.py --arch $(ARCH) --build $(BUILD) $(LAB_OPTIONS) $(foreach test,$(TEST),'$(test)')

format:
	@tools/deps check
	@clang-format-14 -i $$(git ls-files 'src/*.[ch]' 'tests/*.[ch]')

install: build
	@meson install -C $(BUILD) --no-rebuild $(if $(DESTDIR),--destdir $(abspath $(DESTDIR)))

# Keeps the downloaded packages; distclean does not.
clean:
	@test ! -d $(BUILD) || find $(BUILD) -mindepth 1 -maxdepth 1 ! -name cache -exec rm -rf {} +

distclean:
	@rm -rf $(BUILD)

help:
	@echo "make              build $(BUILD)/trapline  (ARCH=arm64: cross-built)"
	@echo "make run          boot a stock Debian kernel with it: a shell on a terminal, a report elsewhere"
	@echo "                  KERNEL=full|cloud|PATH  CPUS=2  MEMORY=512  VERBOSE=1 (kernel log)  BED=1  ARGS='--debug'"
	@echo "                  in the emulated machine ARGS has no files of this host but docs, as /docs"
	@echo "make check        every test there is, in every configuration; about 40 minutes"
	@echo "make lab          stock kernels under real KVM, on any machine; about 20 minutes"
	@echo "                  TEST='boot-*'  LIST=1  VERBOSE=1  JOBS=2  ARCH=arm64"
	@echo "make bench        figures and the targets that they are held to; docs/benchmarks.md tells of each"
	@echo "                  BENCH='startup memory'  JSON=FILE (default: $(BUILD)/bench.json)  ARCH=arm64 BENCH=boot"
	@echo "make format       format the C sources as make check wants them"
	@echo "make install      PREFIX is set when configuring: meson setup --prefix=/usr $(BUILD);  DESTDIR="
	@echo "make clean        remove what was built, keep downloaded packages (distclean removes them too)"
