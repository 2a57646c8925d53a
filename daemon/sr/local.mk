# SPDX-License-Identifier: BSD-2-Clause
noinst_LTLIBRARIES += libsr.la
libsr_la_SOURCES = \
	sr/cbt.c \
	sr/cbt.h \
	sr/cbt-change.c \
	sr/cbt-impl.h \
	sr/cbt-log.c \
	sr/cbt-log.h \
	sr/driver.c \
	sr/formats.c \
	sr/images.c \
	sr/images.h \
	sr/internal.h \
	sr/link.c \
	sr/link.h \
	sr/look-ask.c \
	sr/look-impl.h \
	sr/look.c \
	sr/look.h \
	sr/names.c \
	sr/names.h \
	sr/op.c \
	sr/overlay.c \
	sr/overlay.h \
	sr/records.c \
	sr/scan.c \
	sr/scan-impl.h \
	sr/scan-known.c \
	sr/scan-new.c \
	sr/settle.c \
	sr/settle.h \
	sr/showing.c \
	sr/showing.h \
	sr/sr.h \
	sr/staging.c \
	sr/staging.h \
	sr/storage.c \
	sr/tree.c \
	sr/tree.h \
	sr/vbd.c \
	sr/volume.c \
	sr/volume.h \
	$(NULL)
libsr_la_CFLAGS = $(AM_CFLAGS) $(JSON_C_CFLAGS)
libsr_la_LIBADD = -ldl

if HAVE_CMOCKA
check_PROGRAMS += sr/test-images sr/test-names sr/test-sr sr/test-tree
TESTS += sr/test-images sr/test-names sr/test-sr sr/test-tree
sr_test_names_SOURCES = sr/test-names.c sr/names.c
sr_test_names_CFLAGS = $(AM_CFLAGS) $(JSON_C_CFLAGS) $(CMOCKA_CFLAGS)
sr_test_names_LDADD = $(top_builddir)/common/libcommon.la $(JSON_C_LIBS) $(CMOCKA_LIBS)
sr_test_sr_SOURCES = sr/test-sr.c
sr_test_sr_CFLAGS = $(AM_CFLAGS) $(JSON_C_CFLAGS) $(SQLITE_CFLAGS) $(CMOCKA_CFLAGS)
sr_test_sr_LDADD = libsr.la libdb.la $(JSON_C_LIBS) $(CMOCKA_LIBS)
sr_test_images_SOURCES = sr/test-images.c sr/images.c
sr_test_images_CFLAGS = $(AM_CFLAGS) $(JSON_C_CFLAGS) $(CMOCKA_CFLAGS)
sr_test_images_LDADD = $(top_builddir)/common/libcommon.la $(JSON_C_LIBS) $(CMOCKA_LIBS)
sr_test_tree_SOURCES = sr/test-tree.c sr/tree.c
sr_test_tree_CFLAGS = $(sr_test_sr_CFLAGS)
sr_test_tree_LDADD = libdb.la $(JSON_C_LIBS) $(CMOCKA_LIBS)
endif
