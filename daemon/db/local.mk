# SPDX-License-Identifier: BSD-2-Clause
noinst_LTLIBRARIES += libdb.la
libdb_la_SOURCES = \
	db/cbt.c \
	db/change.c \
	db/db.c \
	db/db.h \
	db/derived.c \
	db/disk.c \
	db/events.c \
	db/insert.c \
	db/journal.c \
	db/object.c \
	db/private.h \
	db/rows.c \
	db/sizes.c \
	db/tables.c \
	db/tree.c \
	db/where.c \
	$(NULL)
nodist_libdb_la_SOURCES = db/steps.c
libdb_la_CFLAGS = $(AM_CFLAGS) $(JSON_C_CFLAGS) $(SQLITE_CFLAGS)
libdb_la_LIBADD = $(top_builddir)/schema/libschema.la $(SQLITE_LIBS)

# The steps are part of the program: nothing to find at run time.
db_steps = \
	$(top_srcdir)/schema/db/001-initial.sql \
	$(top_srcdir)/schema/db/002-tree.sql \
	$(top_srcdir)/schema/db/003-vdi-location.sql \
	$(top_srcdir)/schema/db/004-virtual-machines.sql \
	$(top_srcdir)/schema/db/005-cbt.sql \
	$(top_srcdir)/schema/db/006-sr-sizes.sql \
	$(top_srcdir)/schema/db/007-unmanaged.sql \
	$(top_srcdir)/schema/db/008-sr-sizes-made.sql \
	$(top_srcdir)/schema/db/009-vdi-made.sql \
	$(top_srcdir)/schema/db/010-made-again.sql \
	$(top_srcdir)/schema/db/011-sr-sizes-of-rows-made.sql \
	$(NULL)
db/steps.c: $(db_steps) $(srcdir)/db/embed-steps.awk
	$(AM_V_GEN)$(MKDIR_P) db && \
	$(AWK) -f $(srcdir)/db/embed-steps.awk $(db_steps) > $@.tmp && mv $@.tmp $@
CLEANFILES += db/steps.c
EXTRA_DIST += db/embed-steps.awk

if HAVE_CMOCKA
db_tests = \
	db/test-disk \
	db/test-events \
	db/test-objects \
	db/test-steps \
	db/test-where \
	$(NULL)
check_PROGRAMS += $(db_tests)
TESTS += $(db_tests)
db_test_cflags = $(AM_CFLAGS) $(JSON_C_CFLAGS) $(SQLITE_CFLAGS) $(CMOCKA_CFLAGS)
db_test_libs = libdb.la $(JSON_C_LIBS) $(CMOCKA_LIBS)
db_test_disk_SOURCES = db/test-disk.c db/test-db.h
db_test_disk_CFLAGS = $(db_test_cflags)
db_test_disk_LDADD = $(db_test_libs)
db_test_events_SOURCES = db/test-events.c db/test-db.h
db_test_events_CFLAGS = $(db_test_cflags)
db_test_events_LDADD = $(db_test_libs)
db_test_objects_SOURCES = db/test-objects.c db/test-db.h
db_test_objects_CFLAGS = $(db_test_cflags)
db_test_objects_LDADD = $(db_test_libs)
db_test_steps_SOURCES = db/test-steps.c db/test-db.h
db_test_steps_CFLAGS = $(db_test_cflags)
db_test_steps_LDADD = $(db_test_libs)
db_test_where_SOURCES = db/test-where.c db/test-db.h
db_test_where_CFLAGS = $(db_test_cflags)
db_test_where_LDADD = $(db_test_libs)
endif
