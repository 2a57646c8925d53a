/* SPDX-License-Identifier: BSD-2-Clause */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>

#include "common/error.h"
#include "common/mem.h"

static void
test_setter_fills_all(void **state)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;

	(void)state;
	assert_int_equal(smd_fail_SR_FULL(&err, "10", NULL, "wants %d, has %s", 10, "3"), -1);
	assert_true(smd_error_is(&err, SMD_E_SR_FULL));
	assert_string_equal(err.code, "SR_FULL");
	assert_string_equal(err.params[0], "10");
	assert_string_equal(err.params[1], "");
	assert_null(err.params[2]);
	assert_string_equal(err.message, "wants 10, has 3");
	assert_int_equal(err.errnum, 0);
}

static void
test_first_error_stays(void **state)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;

	(void)state;
	smd_fail_IMAGE_IO(&err, "a.vhd", "first");
	smd_fail_code(&err, "VDI_MISSING", SMD_PARAMS("a", "b"), "second");
	assert_string_equal(err.code, "IMAGE_IO");
	assert_string_equal(err.message, "first");
}

static void
test_any_number_of_params(void **state)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;

	(void)state;
	smd_fail_VDI_IN_USE(&err, SMD_PARAMS("a", "b", "c", "d", "e", "f"), "in use");
	assert_string_equal(err.params[5], "f");
	assert_null(err.params[6]);
}

static void
test_code_as_data(void **state)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;

	(void)state;
	smd_fail_code(&err, "TASK_CANCELLED", SMD_PARAMS("OpaqueRef:1"), "asked for");
	assert_true(smd_error_is(&err, SMD_E_TASK_CANCELLED));
	assert_string_equal(err.params[0], "OpaqueRef:1");
	smd_error_clear(&err);
	smd_fail_code(&err, "VDI_COPY_FAILED", NULL, "no parameters");
	assert_null(err.params[0]);
	smd_error_clear(&err);
	smd_fail_code(&err, "NO_SUCH_CODE", NULL, "text");
	assert_true(smd_error_is(&err, SMD_E_INTERNAL_ERROR));
	assert_string_equal(err.message, "NO_SUCH_CODE: text");
}

static void
test_prefix(void **state)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;

	(void)state;
	assert_int_equal(smd_error_prefix(&err, "nothing is set"), -1);
	assert_null(err.code);
	smd_fail_IMAGE_IO(&err, "a.vhd", "at %d", 7);
	assert_int_equal(smd_error_prefix(&err, "VDI %s", "u"), -1);
	assert_string_equal(err.message, "VDI u: at 7");
	assert_string_equal(err.params[0], "a.vhd");
}

static void
test_clear_and_move(void **state)
{
	struct smd_error a CLEANUP_ERROR = SMD_ERROR_INIT, b CLEANUP_ERROR = SMD_ERROR_INIT;

	(void)state;
	smd_error_clear(NULL);
	smd_error_clear(&a);
	smd_fail_IMAGE_IO(&a, "a.vhd", "text");
	a.errnum = EIO;
	smd_error_move(&b, &a);
	assert_null(a.code);
	assert_null(a.message);
	assert_true(smd_error_is(&b, SMD_E_IMAGE_IO));
	assert_int_equal(b.errnum, EIO);
	smd_error_clear(&b);
	assert_null(b.code);
	assert_int_equal(b.errnum, 0);
}

/* Codes are found by name, name at most four parameters each, and differ. */
static void
test_declarations(void **state)
{
	(void)state;
	for (int i = 0; i < SMD_N_ERRORS; i++) {
		const struct smd_error_decl *d = &smd_error_decls[i];
		int n = 0;

		assert_ptr_equal(smd_error_decl_find(d->code), d);
		while (d->params[n])
			n++;
		assert_int_equal(n, d->n_params < 0 ? 1 : d->n_params);
		assert_int_equal(d->text[strlen(d->text) - 1], '.');
	}
	assert_null(smd_error_decl_find("NO_SUCH_CODE"));
}

static void
test_u64_text(void **state)
{
	(void)state;
	assert_string_equal(SMD_U64(0), "0");
	assert_string_equal(SMD_U64(UINT64_MAX), "18446744073709551615");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_setter_fills_all), cmocka_unit_test(test_first_error_stays),
		cmocka_unit_test(test_any_number_of_params), cmocka_unit_test(test_code_as_data),
		cmocka_unit_test(test_prefix), cmocka_unit_test(test_clear_and_move),
		cmocka_unit_test(test_declarations), cmocka_unit_test(test_u64_text),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
