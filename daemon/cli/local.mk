# SPDX-License-Identifier: BSD-2-Clause
# smctl, the client: of ours it knows common/ and the wire only.
noinst_LTLIBRARIES += libcli.la
libcli_la_SOURCES = \
	cli/args.c \
	cli/args.h \
	cli/describe.c \
	cli/describe.h \
	cli/http.c \
	cli/http.h \
	cli/password.c \
	cli/password.h \
	cli/server.c \
	cli/server.h \
	$(NULL)
libcli_la_CFLAGS = $(AM_CFLAGS) $(JSON_C_CFLAGS) $(CURL_CFLAGS)
libcli_la_LIBADD = \
	$(top_builddir)/common/libcommon.la \
	$(JSON_C_LIBS) \
	$(CURL_LIBS) \
	$(CRYPT_LIBS) \
	$(NULL)
