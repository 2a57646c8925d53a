# SPDX-License-Identifier: BSD-2-Clause
libexec_PROGRAMS += smd-worker
smd_worker_SOURCES = \
	worker/archive.c \
	worker/archive.h \
	worker/blocks.c \
	worker/coding.c \
	worker/coding.h \
	worker/control.c \
	worker/control.h \
	worker/disk.c \
	worker/export.c \
	worker/fork.c \
	worker/fork.h \
	worker/gzip.c \
	worker/gzip.h \
	worker/import.c \
	worker/internal.h \
	worker/look.c \
	worker/look.h \
	worker/main.c \
	worker/make.c \
	worker/make.h \
	worker/packet.c \
	worker/packet.h \
	worker/protocol.h \
	worker/request.c \
	worker/request.h \
	worker/sandbox.c \
	worker/sandbox.h \
	worker/walls.c \
	worker/walls.h \
	$(NULL)
smd_worker_CFLAGS = $(AM_CFLAGS) $(JSON_C_CFLAGS) $(SECCOMP_CFLAGS) $(ARCHIVE_CFLAGS) \
	$(ISAL_CFLAGS) $(NETTLE_CFLAGS) $(XXHASH_CFLAGS) $(ZSTD_CFLAGS)
smd_worker_LDADD = $(top_builddir)/common/image/libimage.la $(SECCOMP_LIBS) \
	$(ARCHIVE_LIBS) $(ISAL_LIBS) $(NETTLE_LIBS) $(XXHASH_LIBS) $(ZSTD_LIBS)

man8_MANS += worker/smd-worker.8
EXTRA_DIST += worker/smd-worker.pod
CLEANFILES += worker/smd-worker.8

if HAVE_CMOCKA
check_PROGRAMS += worker/test-gzip
TESTS += worker/test-gzip
worker_test_gzip_SOURCES = worker/test-gzip.c worker/gzip.c
worker_test_gzip_CFLAGS = $(AM_CFLAGS) $(ISAL_CFLAGS) $(CMOCKA_CFLAGS)
worker_test_gzip_LDADD = $(top_builddir)/common/libcommon.la $(ISAL_LIBS) $(CMOCKA_LIBS)
endif
