# SPDX-License-Identifier: BSD-2-Clause
noinst_LTLIBRARIES += libapi.la
libapi_la_SOURCES = \
	api/coding.c \
	api/coding.h \
	api/event.c \
	api/generic.c \
	api/handlers.h \
	api/host.c \
	api/image.c \
	api/measure.c \
	api/message.c \
	api/network.c \
	api/pbd.c \
	api/pool.c \
	api/raw_vdi.c \
	api/raw_vdi.h \
	api/raw_vdi_import.c \
	api/session.c \
	api/sm.c \
	api/sr.c \
	api/system.c \
	api/task.c \
	api/transfer.c \
	api/transfer.h \
	api/vbd.c \
	api/vdi.c \
	api/vdi.h \
	api/vdi_cbt.c \
	api/vdi_chain.c \
	api/vdi_snapshot.c \
	api/vm.c \
	api/watch.c \
	api/watch.h \
	$(NULL)
libapi_la_CFLAGS = $(AM_CFLAGS) $(JSON_C_CFLAGS)

man7_MANS += api/smd-http.7
EXTRA_DIST += api/smd-http.pod
CLEANFILES += api/smd-http.7

if HAVE_CMOCKA
check_PROGRAMS += api/test-coding
TESTS += api/test-coding
api_test_coding_SOURCES = api/test-coding.c api/coding.c
api_test_coding_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
api_test_coding_LDADD = $(CMOCKA_LIBS)
endif
