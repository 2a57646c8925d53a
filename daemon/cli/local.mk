# SPDX-License-Identifier: BSD-2-Clause
# smctl, the client: of ours it knows common/ and the wire only.
bin_PROGRAMS += smctl
noinst_LTLIBRARIES += libcli.la
libcli_la_SOURCES = \
	cli/args.c \
	cli/args.h \
	cli/call.c \
	cli/cli.h \
	cli/columns.c \
	cli/columns.h \
	cli/commands.c \
	cli/commands.h \
	cli/complete.c \
	cli/describe.c \
	cli/describe.h \
	cli/errors.c \
	cli/errors.h \
	cli/help.c \
	cli/http.c \
	cli/http.h \
	cli/list.c \
	cli/measure.c \
	cli/names.c \
	cli/names.h \
	cli/params.c \
	cli/passwd.c \
	cli/password.c \
	cli/password.h \
	cli/print.c \
	cli/print.h \
	cli/progress.c \
	cli/progress.h \
	cli/resolve.c \
	cli/server.c \
	cli/server.h \
	cli/spelling.c \
	cli/spelling.h \
	cli/task.c \
	cli/transfer.c \
	cli/tree.c \
	cli/values.c \
	cli/values.h \
	cli/watch.c \
	$(NULL)
libcli_la_CFLAGS = $(AM_CFLAGS) $(JSON_C_CFLAGS) $(CURL_CFLAGS)
libcli_la_LIBADD = \
	$(top_builddir)/common/libcommon.la \
	$(JSON_C_LIBS) \
	$(CURL_LIBS) \
	$(CRYPT_LIBS) \
	$(NULL)

smctl_SOURCES = cli/main.c
smctl_CPPFLAGS = $(AM_CPPFLAGS) -DSMCTL_VERSION='"$(VERSION)"'
smctl_CFLAGS = $(AM_CFLAGS) $(JSON_C_CFLAGS)
smctl_LDADD = libcli.la

man1_MANS += cli/smctl.1
EXTRA_DIST += cli/smctl.pod
CLEANFILES += cli/smctl.1

if HAVE_CMOCKA
check_PROGRAMS += \
	test-smctl-print \
	test-smctl-words \
	$(NULL)
TESTS += \
	test-smctl-print \
	test-smctl-words \
	$(NULL)
test_smctl_print_SOURCES = cli/test-api.c cli/test-api.h cli/test-print.c
test_smctl_print_CFLAGS = $(AM_CFLAGS) $(JSON_C_CFLAGS) $(CMOCKA_CFLAGS)
test_smctl_print_LDADD = libcli.la $(CMOCKA_LIBS)
test_smctl_words_SOURCES = cli/test-api.c cli/test-api.h cli/test-words.c
test_smctl_words_CFLAGS = $(AM_CFLAGS) $(JSON_C_CFLAGS) $(CMOCKA_CFLAGS)
test_smctl_words_LDADD = libcli.la $(CMOCKA_LIBS)
endif
