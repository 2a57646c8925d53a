# SPDX-License-Identifier: BSD-2-Clause
# smctl, the client: of ours it knows common/ and the wire only.
noinst_LTLIBRARIES += libcli.la
libcli_la_SOURCES = \
	cli/args.c \
	cli/args.h \
	cli/columns.c \
	cli/columns.h \
	cli/describe.c \
	cli/describe.h \
	cli/errors.c \
	cli/errors.h \
	cli/http.c \
	cli/http.h \
	cli/names.c \
	cli/names.h \
	cli/password.c \
	cli/password.h \
	cli/print.c \
	cli/print.h \
	cli/progress.c \
	cli/progress.h \
	cli/server.c \
	cli/server.h \
	cli/spelling.c \
	cli/spelling.h \
	cli/values.c \
	cli/values.h \
	$(NULL)
libcli_la_CFLAGS = $(AM_CFLAGS) $(JSON_C_CFLAGS) $(CURL_CFLAGS)
libcli_la_LIBADD = \
	$(top_builddir)/common/libcommon.la \
	$(JSON_C_LIBS) \
	$(CURL_LIBS) \
	$(CRYPT_LIBS) \
	$(NULL)
