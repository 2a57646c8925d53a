# SPDX-License-Identifier: BSD-2-Clause
noinst_LTLIBRARIES += librpc.la
librpc_la_SOURCES = \
	rpc/auth.c \
	rpc/auth.h \
	rpc/background.c \
	rpc/call.h \
	rpc/dispatch.c \
	rpc/http.c \
	rpc/http.h \
	rpc/jsonrpc.c \
	rpc/listen.c \
	rpc/listen.h \
	rpc/rpc.h \
	rpc/session.c \
	rpc/session.h \
	rpc/wire.c \
	rpc/wire.h \
	rpc/xml-print.c \
	rpc/xml-print.h \
	rpc/xml-scan.c \
	rpc/xml-scan.h \
	rpc/xmlrpc.c \
	$(NULL)
librpc_la_CFLAGS = $(AM_CFLAGS) $(JSON_C_CFLAGS) $(MICROHTTPD_CFLAGS)
librpc_la_LIBADD = \
	$(top_builddir)/schema/libschema.la \
	$(JSON_C_LIBS) \
	$(MICROHTTPD_LIBS) \
	$(XMLRPC_LIBS) \
	$(CRYPT_LIBS) \
	$(NULL)
