# SPDX-License-Identifier: BSD-2-Clause
# Included by every Makefile.am: flags everyone builds with.
# SMD_VERSION and not config.h, which daemon/config.h would hide.
AM_CPPFLAGS = -I$(top_srcdir) -I$(top_builddir) -D_GNU_SOURCE -DSMD_VERSION='"$(PACKAGE_VERSION)"'
AM_CFLAGS = $(SMD_CFLAGS) -pthread
AM_LDFLAGS = -pthread

# A module leaves no symbol undefined and exports only its init function. (clang's
# sanitizers, which the fuzzers use, are in the program only.)
smd_module_ldflags = -module -avoid-version -shared -no-undefined -Wl,-z,now $(AM_LDFLAGS)
if !FUZZERS
smd_module_ldflags += -Wl,-z,defs
endif

# Unit tests are cmocka programs that speak TAP. SMD_VALGRIND, empty or the command
# they and the daemons of the end-to-end tests run under, is check-valgrind's.
TEST_EXTENSIONS = .sh .py
LOG_COMPILER = $(SMD_VALGRIND)
LOG_DRIVER = env AM_TAP_AWK='$(AWK)' $(SHELL) $(top_srcdir)/build-aux/tap-driver.sh
AM_TESTS_ENVIRONMENT = CMOCKA_MESSAGE_OUTPUT=TAP; export CMOCKA_MESSAGE_OUTPUT;

# A page from the POD beside what it describes.
POD2MAN_FLAGS = --utf8 --release="smd $(VERSION)" --center="smd"
SUFFIXES = .pod .1 .3 .5 .7 .8
.pod.1:
	$(AM_V_GEN)$(POD2MAN) $(POD2MAN_FLAGS) --section=1 --name=$(notdir $*) $< $@
.pod.3:
	$(AM_V_GEN)$(POD2MAN) $(POD2MAN_FLAGS) --section=3 --name=$(notdir $*) $< $@
.pod.5:
	$(AM_V_GEN)$(POD2MAN) $(POD2MAN_FLAGS) --section=5 --name=$(notdir $*) $< $@
.pod.7:
	$(AM_V_GEN)$(POD2MAN) $(POD2MAN_FLAGS) --section=7 --name=$(notdir $*) $< $@
.pod.8:
	$(AM_V_GEN)$(POD2MAN) $(POD2MAN_FLAGS) --section=8 --name=$(notdir $*) $< $@
