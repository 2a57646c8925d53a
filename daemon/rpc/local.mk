# SPDX-License-Identifier: BSD-2-Clause
noinst_LTLIBRARIES += librpc.la
librpc_la_SOURCES = \
	rpc/audit.c \
	rpc/audit.h \
	rpc/auth.c \
	rpc/auth.h \
	rpc/background.c \
	rpc/call.h \
	rpc/dispatch.c \
	rpc/http-private.h \
	rpc/http-reply.c \
	rpc/http-stream.c \
	rpc/http.c \
	rpc/http.h \
	rpc/jsonrpc.c \
	rpc/listen.c \
	rpc/listen.h \
	rpc/pool.c \
	rpc/pool.h \
	rpc/record.c \
	rpc/record.h \
	rpc/rpc.h \
	rpc/session.c \
	rpc/session.h \
	rpc/shared.c \
	rpc/shared.h \
	rpc/throttle.c \
	rpc/throttle.h \
	rpc/tls.c \
	rpc/tls.h \
	rpc/wire.c \
	rpc/wire.h \
	rpc/xml-planes.c \
	rpc/xml-planes.h \
	rpc/xml-print.c \
	rpc/xml-print.h \
	rpc/xml-scan.c \
	rpc/xml-scan.h \
	rpc/xmlrpc.c \
	$(NULL)
librpc_la_CFLAGS = $(AM_CFLAGS) $(JSON_C_CFLAGS) $(MICROHTTPD_CFLAGS) $(GNUTLS_CFLAGS)
librpc_la_LIBADD = \
	$(top_builddir)/schema/libschema.la \
	$(JSON_C_LIBS) \
	$(MICROHTTPD_LIBS) \
	$(GNUTLS_LIBS) \
	$(XMLRPC_LIBS) \
	$(CRYPT_LIBS) \
	$(NULL)

rpc_fake = \
	api/session.c \
	api/system.c \
	rpc/fake.c \
	rpc/fake.h \
	$(NULL)

if HAVE_CMOCKA
check_PROGRAMS += \
	test-dispatch \
	test-wire \
	$(NULL)
TESTS += \
	test-dispatch \
	test-wire \
	$(NULL)
test_dispatch_SOURCES = $(rpc_fake) rpc/test-dispatch.c
test_dispatch_CFLAGS = $(AM_CFLAGS) $(JSON_C_CFLAGS) $(CMOCKA_CFLAGS)
test_dispatch_LDADD = librpc.la $(CMOCKA_LIBS)
test_wire_SOURCES = $(rpc_fake) rpc/test-wire.c
test_wire_CFLAGS = $(AM_CFLAGS) $(JSON_C_CFLAGS) $(CMOCKA_CFLAGS)
test_wire_LDADD = librpc.la $(CMOCKA_LIBS)
endif

if FUZZERS
noinst_PROGRAMS += \
	fuzz-jsonrpc \
	fuzz-xmlrpc \
	$(NULL)
fuzz_jsonrpc_SOURCES = $(rpc_fake) rpc/fuzz.c rpc/fuzz.h rpc/fuzz-jsonrpc.c
fuzz_jsonrpc_CFLAGS = $(AM_CFLAGS) $(JSON_C_CFLAGS)
fuzz_jsonrpc_LDFLAGS = $(AM_LDFLAGS) -fsanitize=fuzzer
fuzz_jsonrpc_LDADD = librpc.la
fuzz_xmlrpc_SOURCES = $(rpc_fake) rpc/fuzz.c rpc/fuzz.h rpc/fuzz-xmlrpc.c
fuzz_xmlrpc_CFLAGS = $(AM_CFLAGS) $(JSON_C_CFLAGS)
fuzz_xmlrpc_LDFLAGS = $(AM_LDFLAGS) -fsanitize=fuzzer
fuzz_xmlrpc_LDADD = librpc.la
endif
