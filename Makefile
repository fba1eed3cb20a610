# The logging pipeline: make help lists the targets.

CC        ?= cc
AR        ?= ar
OBJCOPY   ?= objcopy
PKG_CONFIG ?= pkg-config
PYTHON    ?= /usr/bin/python3
PREFIX    ?= /usr/local
BINDIR    ?= $(PREFIX)/bin
LIBDIR    ?= $(PREFIX)/lib
INCLUDEDIR ?= $(PREFIX)/include
MANDIR    ?= $(PREFIX)/share/man
BUILD     ?= build
CFLAGS    ?= $(if $(filter %debug,$(BUILD)),-O0 -g3,-O2 -g)
JOBS      ?= $(shell getconf _NPROCESSORS_ONLN)
VERSION   := 0.1.0# LOGCLIENT_VERSION in logclient.h says the same

# SAN=address,undefined or SAN=thread builds with sanitizers; WERROR=1 makes warnings errors.
SAN    ?=
WERROR ?=

WARN = -Wall -Wextra -Wshadow -Wconversion -Wsign-conversion -Wstrict-prototypes -Wmissing-prototypes \
       -Wold-style-definition -Wpointer-arith -Wcast-qual -Wwrite-strings -Wundef -Wvla -Wformat=2 \
       $(if $(WERROR),-Werror)
SANFLAGS = $(if $(SAN),-fsanitize=$(SAN) -fno-sanitize-recover=all -fno-omit-frame-pointer)
ALL_CFLAGS  = -std=gnu11 -D_GNU_SOURCE -pthread $(WARN) $(SANFLAGS) $(CFLAGS) $(CPPFLAGS)
ALL_LDFLAGS = -pthread $(SANFLAGS) $(LDFLAGS)

# pkg-config is asked only inside recipes, so that `make deps` works before it is there.
pkg_cflags = $(shell $(PKG_CONFIG) --cflags libevent hiredis jansson 2>/dev/null)
pkg_libs   = $(if $(1),$(shell $(PKG_CONFIG) --libs $(1)))

# The product sees all headers of the tree; an application, which the examples and most helpers of the tests are, sees one.
PRODUCT     = $(CC) -I. -DLOGPIPE_VERSION='"$(VERSION)"' -fPIC -fvisibility=hidden $(ALL_CFLAGS) $(pkg_cflags)
APPLICATION = $(CC) -Iliblogclient $(ALL_CFLAGS)

# What the library takes from common/: records, and nothing that needs another library.
RECORD_SRC := common/buf.c common/level.c common/timestamp.c common/utf8.c common/jsontext.c common/record.c common/option.c
LIB_SRC    := $(filter-out liblogclient/logsend%.c,$(wildcard liblogclient/*.c)) $(RECORD_SRC)
SENDER_SRC := $(wildcard liblogclient/logsend*.c)
LOGD_SRC   := $(wildcard logd/*.c)
WORKER_SRC := $(wildcard worker/*.c)
EXAMPLES   := $(patsubst examples/%.c,%,$(filter-out examples/service%.c,$(wildcard examples/*.c)))
UNIT       := $(patsubst tests/%.c,%,$(wildcard tests/unit/*/test_*.c tests/unit/*/*/test_*.c))
ifeq ($(SAN),thread)
UNIT       := $(filter-out %/test_sink_crash %/test_sink_taken_crash,$(UNIT)) # they have one thread, and are slow
endif
HELPERS    := $(patsubst tests/e2e/%.c,%,$(filter-out tests/e2e/process-%.c tests/e2e/fail-%.c tests/e2e/clock.c,$(wildcard tests/e2e/*.c)))
HOST_HELPERS := $(patsubst tests/hosts/%.c,%,$(wildcard tests/hosts/*.c))
SHIM       := $(BUILD)/tests/clock.so
BENCH      := call load latency floor bare

obj = $(patsubst %.c,$(BUILD)/obj/%.o,$(1))

PROGRAMS := $(BUILD)/logd $(BUILD)/logworker $(BUILD)/logsend
LIBS     := $(BUILD)/liblogclient.so $(BUILD)/liblogclient.a

.DELETE_ON_ERROR:
.SECONDARY:
.PHONY: all help deps demo debug check check-run test-programs unit e2e check-asan check-tsan check-interop chaos hosts fuzz mutants model bench bench-pipeline \
        install uninstall format lint hooks compile_commands.json clean examples FORCE

# These call make again: with -j, two of them would build into the same directory at the same time.
ifneq ($(filter demo check check-asan check-tsan check-interop chaos hosts bench bench-pipeline,$(MAKECMDGOALS)),)
.NOTPARALLEL:
endif

all: $(PROGRAMS) $(LIBS) examples ## build everything into build/

help: ## list the targets
	@sed -n 's/^\([a-z0-9_.-]*\):.*## \(.*\)/  \1\t\2/p' $(MAKEFILE_LIST) | expand -t 26

deps: ## install what building and testing need (apt-get, through sudo when not root)
	@sh .ci/deps

debug: ## build everything and the tests into build/debug with -O0 -g3 (SAN=address,undefined or SAN=thread)
	@$(MAKE) --no-print-directory BUILD=$(BUILD)/debug all test-programs

# ---- Compile and link ----

# A stamp holds what was built with. It is written only when that changes: compilers and flags, and for links the list of all sources,
# so that what a deleted file left behind is linked no more.
$(BUILD)/compile.stamp: built_with = $(PRODUCT)
$(BUILD)/link.stamp: built_with = $(CC) $(ALL_LDFLAGS) $(AR) $(LD) $(OBJCOPY) $(sort $(wildcard common/*.c common/*/*.c) $(LIB_SRC) $(SENDER_SRC) $(LOGD_SRC) $(WORKER_SRC))
quoted = '$(subst ','\'',$(1))'

$(BUILD)/%.stamp: FORCE
	@mkdir -p $(@D)
	@printf '%s\n' $(call quoted,$(built_with)) | cmp -s - $@ || printf '%s\n' $(call quoted,$(built_with)) >$@

$(BUILD)/obj/%.o: %.c $(BUILD)/compile.stamp
	@mkdir -p $(@D)
	$(PRODUCT) -MMD -MP -c -o $@ $<

# These have crash points in them (common/crash.h): tests let the code die at each of them in turn.
$(BUILD)/crash/%.o: %.c $(BUILD)/compile.stamp
	@mkdir -p $(@D)
	$(PRODUCT) -DCRASH_POINTS -MMD -MP -c -o $@ $<

define application_rule # the directory, more flags
$(BUILD)/obj/$(1)/%.o: $(1)/%.c $(BUILD)/compile.stamp
	@mkdir -p $$(@D)
	$$(APPLICATION) $(2) -MMD -MP -c -o $$@ $$<
endef
$(eval $(call application_rule,examples,$$(pkg_cflags)))
$(eval $(call application_rule,tests/bench,-I. $$(pkg_cflags)))
$(eval $(call application_rule,tests/e2e))
$(eval $(call application_rule,tests/hosts))
$(eval $(call application_rule,tests/model))

# One archive a directory, of all but its main(). The linker takes from it what is asked for.
define archive_rule
$(BUILD)/$(1)/$(2).a: $(patsubst %.c,$(BUILD)/$(1)/%.o,$(filter-out %/main.c %/logsend.c,$(wildcard $(2)/*.c $(2)/*/*.c))) $(BUILD)/link.stamp
	rm -f $$@
	$(AR) rcs $$@ $$(filter %.o,$$^)
endef
$(foreach kind,obj crash,$(foreach dir,common liblogclient logd worker,$(eval $(call archive_rule,$(kind),$(dir)))))

define link # the packages of its libraries
@mkdir -p $(@D)
$(CC) $(ALL_LDFLAGS) -o $@ $(filter %.o %.a,$^) $(call pkg_libs,$(1))
endef
# Beside the library, wherever the two lie.
link_application = $(link) -Wl,--as-needed -L$(BUILD) -llogclient -Wl,-rpath,'$$ORIGIN/..' -ldl

$(BUILD)/logd: $(call obj,$(LOGD_SRC)) $(BUILD)/obj/common.a $(BUILD)/link.stamp
	$(call link,libevent hiredis jansson)

$(BUILD)/logworker: $(call obj,$(WORKER_SRC)) $(BUILD)/obj/common.a $(BUILD)/link.stamp
	$(call link,libevent hiredis jansson)

$(BUILD)/logsend: $(call obj,$(SENDER_SRC) $(LIB_SRC)) $(BUILD)/obj/common.a $(BUILD)/link.stamp
	$(call link,libevent jansson)

$(BUILD)/liblogclient.so.1: $(call obj,$(LIB_SRC)) liblogclient/liblogclient.map $(BUILD)/link.stamp
	$(call link,libevent) -shared -Wl,-soname,liblogclient.so.1 -Wl,--version-script=liblogclient/liblogclient.map $(if $(SAN),,-Wl,-z,defs)

$(BUILD)/liblogclient.so: $(BUILD)/liblogclient.so.1
	ln -sf $(<F) $@

# One object whose hidden symbols are local, so that a static link exports no more than a shared one.
$(BUILD)/liblogclient.a: $(call obj,$(LIB_SRC)) $(BUILD)/link.stamp
	$(LD) -r -o $(BUILD)/obj/liblogclient-all.o $(filter %.o,$^)
	$(OBJCOPY) --localize-hidden $(BUILD)/obj/liblogclient-all.o
	rm -f $@
	$(AR) rcs $@ $(BUILD)/obj/liblogclient-all.o

examples: $(EXAMPLES:%=$(BUILD)/examples/%)

$(EXAMPLES:%=$(BUILD)/examples/%): $(BUILD)/examples/%: $(BUILD)/obj/examples/%.o $(BUILD)/liblogclient.so $(BUILD)/link.stamp
	$(call link_application,libevent jansson)

$(filter-out %/minimal,$(EXAMPLES:%=$(BUILD)/examples/%)): $(call obj,$(wildcard examples/service*.c))

# ---- Run ----

demo: deps ## show the whole pipeline at work, with a private redis-server
	@$(MAKE) --no-print-directory all
	@sh examples/demo.sh $(BUILD)

check: deps ## unit and end-to-end tests
	@$(MAKE) --no-print-directory check-run

# Everything is built first, side by side; the tests then have the machine for themselves.
check-run:
	@$(MAKE) --no-print-directory $(if $(filter -j%,$(MAKEFLAGS)),,-j$(JOBS)) all test-programs
	@$(MAKE) --no-print-directory unit
	@$(MAKE) --no-print-directory e2e

test-programs: $(addprefix $(BUILD)/tests/,$(UNIT) $(HELPERS)) $(SHIM)

# A unit test links what it uses of its own directory and of common/, and nothing else.
define unit_rule # obj or crash, the directory, tests
$(3:%=$(BUILD)/tests/%): $(BUILD)/tests/%: $(BUILD)/$(1)/tests/%.o $(BUILD)/$(1)/tests/unit/filter.o $(BUILD)/$(1)/$(2).a $(BUILD)/$(1)/common.a $(BUILD)/link.stamp
	$$(call link,libevent hiredis jansson cmocka)
endef
$(foreach dir,common liblogclient logd worker,\
    $(eval $(call unit_rule,obj,$(dir),$(filter-out %_crash,$(filter unit/$(dir)/%,$(UNIT)))))\
    $(eval $(call unit_rule,crash,$(dir),$(filter %_crash,$(filter unit/$(dir)/%,$(UNIT))))))

# What these define in the place of the C library's functions, the libraries see, too.
$(HELPERS:%=$(BUILD)/tests/%): $(BUILD)/tests/%: $(BUILD)/obj/tests/e2e/%.o $(BUILD)/liblogclient.so $(BUILD)/link.stamp
	$(call link_application) -rdynamic

# Preloaded into redis-server, which has no sanitizer.
$(SHIM): $(BUILD)/tests/%.so: tests/e2e/%.c $(BUILD)/compile.stamp
	@mkdir -p $(@D)
	$(filter-out $(SANFLAGS),$(APPLICATION)) -fPIC -fvisibility=hidden -shared $(LDFLAGS) -o $@ $<

$(BUILD)/tests/process: $(call obj,$(wildcard tests/e2e/process-*.c))

$(BUILD)/tests/fail: $(call obj,$(wildcard tests/e2e/fail-*.c))

$(HOST_HELPERS:%=$(BUILD)/tests/%): $(BUILD)/tests/%: $(BUILD)/obj/tests/hosts/%.o $(BUILD)/liblogclient.so $(BUILD)/link.stamp
	$(call link_application)

UNIT_ASKED = $(if $(T),$(foreach t,$(UNIT),$(if $(filter $(T) $(T:%=test_%),$(notdir $(t))),$(t))),$(UNIT))

unit: $(UNIT_ASKED:%=$(BUILD)/tests/%) ## unit tests (T=ring or T='ring%': those of this name; CASE='*wrap*': these cases of them)
	$(if $^,,$(error no unit test is named $(T)))
	@set -e; for t in $(abspath $^); do UNIT_CASE=$(call quoted,$(CASE)) $$t; done

e2e: all $(addprefix $(BUILD)/tests/,$(HELPERS)) $(SHIM) ## end-to-end tests against the real programs
	LOGPIPE_BUILD=$(abspath $(BUILD)) $(PYTHON) -m pytest -q -p no:cacheprovider tests/e2e $(PYTEST_ARGS)

check-asan: deps ## the same under AddressSanitizer, LeakSanitizer and UBSan
	@$(MAKE) --no-print-directory check-run SAN=address,undefined BUILD=$(BUILD)/asan CFLAGS="-O1 -g"

check-tsan: deps ## the threaded parts under ThreadSanitizer
	@$(MAKE) --no-print-directory check-run SAN=thread BUILD=$(BUILD)/tsan CFLAGS="-O1 -g"

check-interop: deps ## axios and Winston deliver into logd; Winston's JSON equals app.log (needs Node 18 or newer)
	@command -v npm >/dev/null || { echo "make check-interop needs Node.js 18 or newer with npm (Debian: nodejs npm)" >&2; exit 1; }
	@$(MAKE) --no-print-directory $(PROGRAMS)
	cd tests/interop && npm ci --no-audit --no-fund
	cd tests/interop && LOGPIPE_BUILD=$(abspath $(BUILD)) node --test

chaos: deps ## kill, stop, rotate and put back at random for SECONDS=30; count what is lost or doubled (SEED=…)
	@$(MAKE) --no-print-directory all $(BUILD)/tests/producer $(SHIM)
	LOGPIPE_BUILD=$(abspath $(BUILD)) $(PYTHON) tests/chaos/chaos.py --seconds $(or $(SECONDS),30) $(if $(SEED),--seed $(SEED))

hosts: ## rings on file systems that are full, limited, read-only; users, containers, power cuts (needs root; PYTEST_ARGS='-k quota'; POWER_CUTS=500 POWER_SEED=7)
	@sh .ci/deps xfsprogs btrfs-progs quota fuse2fs
	@$(MAKE) --no-print-directory all $(HOST_HELPERS:%=$(BUILD)/tests/%)
	LOGPIPE_BUILD=$(abspath $(BUILD)) $(PYTHON) -m pytest -q -p no:cacheprovider tests/hosts $(PYTEST_ARGS)

FUZZ_SECONDS ?= 60
FUZZ_CC      = clang -std=gnu11 -D_GNU_SOURCE -I. -O1 -g
QUICK_SRC    = logd/quick.c logd/parse.c common/http/failure.c $(RECORD_SRC)
LEFTOVER_SRC = $(addprefix liblogclient/,leftover.c leftover-scan.c ring.c ring-check.c ring-read.c) $(RECORD_SRC)

fuzz: ## libFuzzer on logd's two JSON readers and on files of dead processes (needs clang; FUZZ_SECONDS=60, of each)
	@mkdir -p $(BUILD)/fuzz/quick-corpus $(BUILD)/fuzz/leftover-corpus
	$(FUZZ_CC) -fsanitize=fuzzer,address,undefined $(pkg_cflags) -o $(BUILD)/fuzz/quick tests/fuzz/fuzz_quick.c $(QUICK_SRC) $(call pkg_libs,jansson)
	$(FUZZ_CC) -fsanitize=fuzzer,address,undefined -o $(BUILD)/fuzz/leftover tests/fuzz/fuzz_leftover.c $(LEFTOVER_SRC)
	$(BUILD)/fuzz/quick -max_total_time=$(FUZZ_SECONDS) -max_len=400 -dict=tests/fuzz/quick.dict $(BUILD)/fuzz/quick-corpus
	$(BUILD)/fuzz/leftover -max_total_time=$(FUZZ_SECONDS) -max_len=4600 $(BUILD)/fuzz/leftover-corpus tests/fuzz/leftover-corpus

mutants: ## COUNT=100000 damaged files of dead processes under AddressSanitizer: each whole record is read once (SEED=…)
	@mkdir -p $(BUILD)/fuzz
	$(CC) -std=gnu11 -D_GNU_SOURCE -I. -O1 -g -fsanitize=address,undefined -fno-sanitize-recover=all -Wl,--wrap=lc_boot_id \
	    -o $(BUILD)/fuzz/mutants tests/fuzz/mutate_leftover.c $(LEFTOVER_SRC)
	$(BUILD)/fuzz/mutants $(or $(COUNT),100000) $(SEED)

$(BUILD)/tests/model: $(call obj,$(wildcard tests/model/*.c)) $(BUILD)/link.stamp
	$(call link)

model: $(BUILD)/tests/model ## go through all states of worker, Redis and crashes (MODEL_ARGS=--long, or a word of a run's name)
	$(BUILD)/tests/model $(MODEL_ARGS)

# ---- Measure ----

$(BENCH:%=$(BUILD)/bench/%): $(BUILD)/bench/%: $(BUILD)/obj/tests/bench/%.o $(BUILD)/obj/tests/bench/util.o $(BUILD)/liblogclient.so $(BUILD)/link.stamp
	$(call link_application,libevent hiredis jansson)

$(BUILD)/bench/anonymous.so: tests/bench/anonymous.c $(BUILD)/compile.stamp
	@mkdir -p $(@D)
	$(APPLICATION) -fPIC -shared $(ALL_LDFLAGS) -o $@ $<

bench_needs = $(PROGRAMS) $(BUILD)/liblogclient.so $(addprefix $(BUILD)/bench/,$(BENCH) anonymous.so)
bench_run   = LOGPIPE_BUILD=$(abspath $(BUILD)) $(PYTHON) tests/bench/bench.py --out $(BUILD)/bench/results $(BENCH_ARGS)

bench: ## measure everything: a table, plots and results.json in build/bench/results (BENCH_ARGS=--quick)
	@sh .ci/deps wrk gnuplot-nox
	@$(MAKE) --no-print-directory $(bench_needs)
	@$(bench_run)

bench-pipeline: deps ## 1,000,000 records from 4 threads through the whole pipeline, beside the floor
	@$(MAKE) --no-print-directory $(bench_needs)
	@$(bench_run) --rounds 3 --no-plots pipeline

# ---- Install ----

MAN1 = $(wildcard liblogclient/*.1)
MAN3 = $(wildcard liblogclient/*.3)
MAN8 = $(wildcard logd/*.8 worker/*.8)

install: all ## install under DESTDIR and PREFIX
	install -d $(DESTDIR)$(BINDIR) $(DESTDIR)$(LIBDIR)/pkgconfig $(DESTDIR)$(INCLUDEDIR) \
	    $(addprefix $(DESTDIR)$(MANDIR)/,man1 man3 man8)
	install -m 755 $(PROGRAMS) $(DESTDIR)$(BINDIR)
	install -m 755 $(BUILD)/liblogclient.so.1 $(DESTDIR)$(LIBDIR)
	ln -sf liblogclient.so.1 $(DESTDIR)$(LIBDIR)/liblogclient.so
	install -m 644 $(BUILD)/liblogclient.a $(DESTDIR)$(LIBDIR)
	sed -e 's|@PREFIX@|$(PREFIX)|' -e 's|@LIBDIR@|$(LIBDIR)|' -e 's|@INCLUDEDIR@|$(INCLUDEDIR)|' \
	    -e 's|@VERSION@|$(VERSION)|' liblogclient/liblogclient.pc.in > $(DESTDIR)$(LIBDIR)/pkgconfig/liblogclient.pc
	install -m 644 liblogclient/logclient.h $(DESTDIR)$(INCLUDEDIR)
	$(if $(MAN1),install -m 644 $(MAN1) $(DESTDIR)$(MANDIR)/man1)
	$(if $(MAN3),install -m 644 $(MAN3) $(DESTDIR)$(MANDIR)/man3)
	$(if $(MAN8),install -m 644 $(MAN8) $(DESTDIR)$(MANDIR)/man8)

uninstall: ## remove what install put there
	rm -f $(addprefix $(DESTDIR)$(BINDIR)/,logd logworker logsend) \
	    $(addprefix $(DESTDIR)$(LIBDIR)/,liblogclient.so liblogclient.so.1 liblogclient.a pkgconfig/liblogclient.pc) \
	    $(DESTDIR)$(INCLUDEDIR)/logclient.h $(addprefix $(DESTDIR)$(MANDIR)/man1/,$(notdir $(MAN1))) \
	    $(addprefix $(DESTDIR)$(MANDIR)/man3/,$(notdir $(MAN3))) $(addprefix $(DESTDIR)$(MANDIR)/man8/,$(notdir $(MAN8)))

# ---- Keep ----

C_FILES = $(wildcard common/*.[ch] common/*/*.[ch] liblogclient/*.[ch] logd/*.[ch] worker/*.[ch] examples/*.[ch] tests/*/*.[ch] tests/*/*/*.[ch] tests/*/*/*/*.[ch])
APPLICATION_C = $(filter examples/% tests/e2e/% tests/hosts/% tests/bench/% tests/model/%,$(filter %.c,$(C_FILES)))

format: ## lay the sources out with clang-format
	clang-format -i $(C_FILES)

lint: ## check the layout and the rules of the house (tests/lint), and run cppcheck
	clang-format --dry-run -Werror $(C_FILES)
	$(PYTHON) tests/lint/house.py
	$(PYTHON) -m pytest -q -p no:cacheprovider tests/lint
	cppcheck --quiet --error-exitcode=1 --std=c11 --enable=warning,portability --inline-suppr -I. $(filter %.c,$(C_FILES))

hooks: ## let git lay out the C files of each commit
	@hook=$$(git rev-parse --git-path hooks)/pre-commit; if [ -e "$$hook" ] && ! cmp -s .ci/pre-commit "$$hook"; then \
	    echo "$$hook is there already: add a call of .ci/pre-commit to it, or remove it" >&2; exit 1; fi; \
	    mkdir -p "$$(dirname "$$hook")" && install -m 755 .ci/pre-commit "$$hook" && echo "installed $$hook"

json    = $(subst ",\",$(subst \,\\,$(1)))
entries = printf '  {"directory": "%s", "file": "%s", "command": "%s -c %s"},\n' $(foreach f,$(2),$(call quoted,$(CURDIR)) $(f) $(call quoted,$(call json,$(1))) $(f))

compile_commands.json: ## tell clangd and its kin how each file is compiled
	@{ echo '['; { $(call entries,$(PRODUCT),$(filter-out $(APPLICATION_C) %_crash.c,$(filter %.c,$(C_FILES)))); \
	    $(call entries,$(PRODUCT) -DCRASH_POINTS,$(filter %_crash.c,$(C_FILES))); \
	    $(call entries,$(APPLICATION),$(filter tests/e2e/% tests/hosts/%,$(APPLICATION_C))); \
	    $(call entries,$(APPLICATION) -I. $(pkg_cflags),$(filter-out tests/e2e/% tests/hosts/%,$(APPLICATION_C))); } | sed '$$s/,$$//'; echo ']'; } >$@

clean: ## remove what make made
	rm -rf $(BUILD) compile_commands.json

-include $(shell find $(BUILD)/obj $(BUILD)/crash -name '*.d' 2>/dev/null)
