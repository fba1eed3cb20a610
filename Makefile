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
CFLAGS    ?= -O2 -g
JOBS      ?= $(shell getconf _NPROCESSORS_ONLN)
VERSION   := 0.1.0# LOGCLIENT_VERSION in logclient.h says the same

# SAN=address,undefined or SAN=thread builds with sanitizers; WERROR=1 makes warnings errors.
SAN    ?=
WERROR ?=

WARN = -Wall -Wextra -Wshadow -Wconversion -Wsign-conversion -Wstrict-prototypes -Wmissing-prototypes \
       -Wold-style-definition -Wpointer-arith -Wcast-qual -Wwrite-strings -Wundef -Wvla -Wformat=2 \
       $(if $(WERROR),-Werror)
SANFLAGS = $(if $(SAN),-fsanitize=$(SAN) -fno-sanitize-recover=all -fno-omit-frame-pointer)
BASE_CFLAGS = -std=gnu11 -D_GNU_SOURCE -DLOGPIPE_VERSION='"$(VERSION)"' -I. -pthread -fPIC -fvisibility=hidden $(WARN) $(SANFLAGS)
BASE_LDFLAGS = -pthread $(SANFLAGS)

# Asked only inside recipes, so that `make deps` works before pkg-config is there.
pkg_cflags = $(shell $(PKG_CONFIG) --cflags libevent hiredis jansson 2>/dev/null)
pkg_libs   = $(shell $(PKG_CONFIG) --libs $(1))

# What the library takes from common/: records, and nothing that needs another library.
RECORD_SRC := common/buf.c common/level.c common/timestamp.c common/utf8.c common/jsontext.c common/record.c
LIB_SRC    := $(filter-out liblogclient/logsend%.c,$(wildcard liblogclient/*.c)) $(RECORD_SRC)
COMMON_SRC := $(wildcard common/*.c common/*/*.c)
LOGD_SRC   := $(wildcard logd/*.c)
WORKER_SRC := $(wildcard worker/*.c)
EXAMPLES   := $(patsubst examples/%.c,%,$(filter-out examples/service.c,$(wildcard examples/*.c)))
UNIT       := $(patsubst tests/%.c,%,$(wildcard tests/unit/*/test_*.c tests/unit/*/*/test_*.c))
ifeq ($(SAN),thread)
UNIT       := $(filter-out %/test_sink_crash,$(UNIT)) # it has one thread, and is slow
endif
HELPERS    := $(patsubst tests/e2e/%.c,%,$(wildcard tests/e2e/*.c))
BENCH      := call load latency floor bare

obj = $(patsubst %.c,$(BUILD)/obj/%.o,$(1))

PROGRAMS := $(BUILD)/logd $(BUILD)/logworker $(BUILD)/logsend
LIBS     := $(BUILD)/liblogclient.so $(BUILD)/liblogclient.a $(BUILD)/liblogclient.pc

.DELETE_ON_ERROR:
.PHONY: all help deps demo check check-run test-programs unit e2e check-asan check-tsan check-interop chaos fuzz bench bench-pipeline \
        install uninstall format lint clean examples

# These call make again: with -j, two of them would build into the same directory at the same time.
ifneq ($(filter demo check check-asan check-tsan check-interop chaos bench bench-pipeline,$(MAKECMDGOALS)),)
.NOTPARALLEL:
endif

all: $(PROGRAMS) $(LIBS) examples ## build everything into build/

help: ## list the targets
	@sed -n 's/^\([a-z0-9-]*\):.*## \(.*\)/  \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

deps: ## install what building and testing need (apt-get, through sudo when not root)
	@sh .ci/deps

# ---- compile and link ----

$(BUILD)/obj/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(BASE_CFLAGS) $(CFLAGS) $(CPPFLAGS) $(pkg_cflags) -MMD -MP -c -o $@ $<

$(call obj,logd/main.c worker/config.c): Makefile # VERSION

$(BUILD)/logd: $(call obj,$(LOGD_SRC) $(COMMON_SRC))
	$(CC) $(BASE_LDFLAGS) $(LDFLAGS) -o $@ $^ $(call pkg_libs,libevent hiredis jansson)

$(BUILD)/logworker: $(call obj,$(WORKER_SRC) $(COMMON_SRC))
	$(CC) $(BASE_LDFLAGS) $(LDFLAGS) -o $@ $^ $(call pkg_libs,libevent hiredis jansson)

$(BUILD)/logsend: $(call obj,$(sort $(wildcard liblogclient/logsend*.c) $(LIB_SRC) common/options.c common/options-help.c common/diag.c))
	$(CC) $(BASE_LDFLAGS) $(LDFLAGS) -o $@ $^ $(call pkg_libs,libevent jansson)

$(BUILD)/liblogclient.so.1: $(call obj,$(LIB_SRC)) liblogclient/liblogclient.map
	$(CC) -shared -Wl,-soname,liblogclient.so.1 -Wl,--version-script=liblogclient/liblogclient.map $(if $(SAN),,-Wl,-z,defs) \
	    $(BASE_LDFLAGS) $(LDFLAGS) -o $@ $(filter %.o,$^) $(call pkg_libs,libevent)

$(BUILD)/liblogclient.so: $(BUILD)/liblogclient.so.1
	ln -sf $(<F) $@

# One object whose hidden symbols are local, so that a static link exports no more than a shared one.
$(BUILD)/liblogclient.a: $(call obj,$(LIB_SRC))
	$(LD) -r -o $(BUILD)/obj/liblogclient-all.o $^
	$(OBJCOPY) --localize-hidden $(BUILD)/obj/liblogclient-all.o
	rm -f $@
	$(AR) rcs $@ $(BUILD)/obj/liblogclient-all.o

$(BUILD)/liblogclient.pc: liblogclient/liblogclient.pc.in Makefile
	@mkdir -p $(@D)
	sed -e 's|@PREFIX@|$(PREFIX)|' -e 's|@LIBDIR@|$(LIBDIR)|' -e 's|@INCLUDEDIR@|$(INCLUDEDIR)|' \
	    -e 's|@VERSION@|$(VERSION)|' $< > $@

examples: $(addprefix $(BUILD)/examples/,$(EXAMPLES))

# Examples see nothing but the public header.
$(BUILD)/examples/%: examples/%.c $(wildcard examples/service.[ch]) liblogclient/logclient.h $(BUILD)/liblogclient.so
	@mkdir -p $(@D)
	$(CC) -std=gnu11 -D_GNU_SOURCE -Iliblogclient -pthread $(WARN) $(SANFLAGS) $(CFLAGS) $(CPPFLAGS) $(pkg_cflags) $(LDFLAGS) -o $@ \
	    $< $(if $(filter minimal,$*),,$(wildcard examples/service.c)) \
	    -L$(BUILD) -llogclient -Wl,-rpath,'$$ORIGIN/..' $(call pkg_libs,libevent jansson)

# ---- run ----

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

test-programs: $(addprefix $(BUILD)/tests/,$(UNIT) $(HELPERS))

# A unit test links what it needs of its own directory and of common/, and nothing else: the linker takes it from archives.
# Objects of the second kind have crash points in them (common/crash.h): tests let the code die at each of them in turn.
UNIT_LIBS = $(if $(findstring /logd/,$@),$(1)/logd.a)$(if $(findstring /worker/,$@),$(1)/worker.a)$(if $(findstring /liblogclient/,$@),$(1)/liblogclient.a) $(1)/common.a
ARCHIVES  = common liblogclient logd worker

define archive
$(BUILD)/$(1)/$(2).a: $(patsubst %.c,$(BUILD)/$(1)/%.o,$(filter-out %/main.c %/logsend.c,$(wildcard $(2)/*.c $(2)/*/*.c)))
	rm -f $$@
	$(AR) rcs $$@ $$^
endef
$(foreach kind,obj crash,$(foreach dir,$(ARCHIVES),$(eval $(call archive,$(kind),$(dir)))))

$(BUILD)/crash/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(BASE_CFLAGS) -DCRASH_POINTS $(CFLAGS) $(CPPFLAGS) $(pkg_cflags) -MMD -MP -c -o $@ $<

$(BUILD)/tests/unit/%_crash: tests/unit/%_crash.c $(ARCHIVES:%=$(BUILD)/crash/%.a)
	@mkdir -p $(@D)
	$(CC) $(BASE_CFLAGS) -DCRASH_POINTS $(CFLAGS) $(CPPFLAGS) $(pkg_cflags) -MMD -MP $(BASE_LDFLAGS) $(LDFLAGS) -o $@ $< \
	    $(call UNIT_LIBS,$(BUILD)/crash) $(call pkg_libs,libevent hiredis jansson cmocka)

$(BUILD)/tests/unit/%: tests/unit/%.c $(ARCHIVES:%=$(BUILD)/obj/%.a)
	@mkdir -p $(@D)
	$(CC) $(BASE_CFLAGS) $(CFLAGS) $(CPPFLAGS) $(pkg_cflags) -MMD -MP $(BASE_LDFLAGS) $(LDFLAGS) -o $@ $< \
	    $(call UNIT_LIBS,$(BUILD)/obj) $(call pkg_libs,libevent hiredis jansson cmocka)

$(BUILD)/tests/%: tests/e2e/%.c liblogclient/logclient.h $(BUILD)/liblogclient.so
	@mkdir -p $(@D)
	$(CC) -std=gnu11 -D_GNU_SOURCE -Iliblogclient -pthread $(WARN) $(SANFLAGS) $(CFLAGS) $(CPPFLAGS) -o $@ $< \
	    -Wl,--as-needed -L$(BUILD) -llogclient -Wl,-rpath,'$$ORIGIN/..' -ldl

unit: $(addprefix $(BUILD)/tests/,$(UNIT)) ## unit tests
	@set -e; for t in $(abspath $^); do $$t; done

e2e: all $(addprefix $(BUILD)/tests/,$(HELPERS)) ## end-to-end tests against the real programs
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

chaos: deps ## kill everything at random for SECONDS=30 and count what is lost or doubled (SEED=…)
	@$(MAKE) --no-print-directory all $(BUILD)/tests/producer
	LOGPIPE_BUILD=$(abspath $(BUILD)) $(PYTHON) tests/chaos/chaos.py --seconds $(or $(SECONDS),30) $(if $(SEED),--seed $(SEED))

FUZZ_SECONDS ?= 60
FUZZ_SRC = logd/quick.c logd/parse.c common/http/failure.c $(RECORD_SRC)

fuzz: ## compare logd's two JSON readers with libFuzzer (needs clang; FUZZ_SECONDS=60)
	@mkdir -p $(BUILD)/fuzz/corpus
	clang -std=gnu11 -D_GNU_SOURCE -I. -O1 -g -fsanitize=fuzzer,address,undefined $(pkg_cflags) -o $(BUILD)/fuzz/quick \
	    tests/fuzz/fuzz_quick.c $(FUZZ_SRC) $(call pkg_libs,jansson)
	$(BUILD)/fuzz/quick -max_total_time=$(FUZZ_SECONDS) -max_len=400 -dict=tests/fuzz/quick.dict $(BUILD)/fuzz/corpus

# ---- measure ----

# call, load and latency see nothing but the public header; floor shares logd's script.
$(BUILD)/bench/%: tests/bench/%.c tests/bench/util.c tests/bench/util.h logd/script.h liblogclient/logclient.h $(BUILD)/liblogclient.so
	@mkdir -p $(@D)
	$(CC) -std=gnu11 -D_GNU_SOURCE -I. -Iliblogclient -pthread $(WARN) $(SANFLAGS) $(CFLAGS) $(CPPFLAGS) $(pkg_cflags) $(LDFLAGS) -o $@ \
	    $(filter %.c,$^) -Wl,--as-needed -L$(BUILD) -llogclient -Wl,-rpath,'$$ORIGIN/..' $(call pkg_libs,libevent hiredis jansson)

$(BUILD)/bench/anonymous.so: tests/bench/anonymous.c
	@mkdir -p $(@D)
	$(CC) -std=gnu11 -D_GNU_SOURCE -fPIC -shared $(WARN) $(CFLAGS) $(CPPFLAGS) $(LDFLAGS) -o $@ $<

bench_needs = $(PROGRAMS) $(BUILD)/liblogclient.so $(addprefix $(BUILD)/bench/,$(BENCH) anonymous.so)
bench_run   = LOGPIPE_BUILD=$(abspath $(BUILD)) $(PYTHON) tests/bench/bench.py --out $(BUILD)/bench/results $(BENCH_ARGS)

bench: ## measure everything: a table, plots and results.json in build/bench/results (BENCH_ARGS=--quick)
	@sh .ci/deps wrk gnuplot-nox
	@$(MAKE) --no-print-directory $(bench_needs)
	@$(bench_run)

bench-pipeline: deps ## 1,000,000 records from 4 threads through the whole pipeline, beside Redis alone
	@$(MAKE) --no-print-directory $(bench_needs)
	@$(bench_run) --rounds 1 --no-plots pipeline

# ---- install ----

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

# ---- keep ----

C_FILES = $(wildcard common/*.[ch] common/*/*.[ch] liblogclient/*.[ch] logd/*.[ch] worker/*.[ch] examples/*.[ch] tests/*/*.[ch] tests/*/*/*.[ch] tests/*/*/*/*.[ch])

format: ## lay the sources out with clang-format
	clang-format -i $(C_FILES)

lint: ## check the layout, and run cppcheck
	clang-format --dry-run -Werror $(C_FILES)
	cppcheck --quiet --error-exitcode=1 --std=c11 --enable=warning,portability --inline-suppr -I. $(filter %.c,$(C_FILES))

clean: ## remove build/
	rm -rf $(BUILD)

-include $(shell find $(BUILD) -name '*.d' 2>/dev/null)
