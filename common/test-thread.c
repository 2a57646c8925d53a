/* SPDX-License-Identifier: BSD-2-Clause */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/thread.h"

static void *
tell_processors(void *opaque)
{
	assert_int_equal(sched_getaffinity(0, sizeof(cpu_set_t), opaque), 0);
	return NULL;
}

/* Those that a thread may run on which helps us. */
static cpu_set_t
processors_apart(void)
{
	pthread_t thread;
	cpu_set_t ret;

	assert_int_equal(smd_thread_create_apart(&thread, tell_processors, &ret), 0);
	assert_int_equal(pthread_join(thread, NULL), 0);
	return ret;
}

static void
test_all_but_one(void **state)
{
	cpu_set_t ours, helpers, both;

	(void)state;
	assert_int_equal(sched_getaffinity(0, sizeof ours, &ours), 0);
	if (CPU_COUNT(&ours) < 2)
		skip();
	helpers = processors_apart();
	CPU_AND(&both, &ours, &helpers);
	assert_true(CPU_EQUAL(&both, &helpers));
	assert_int_equal(CPU_COUNT(&helpers), CPU_COUNT(&ours) - 1);
	/* Ours are as they were. */
	assert_int_equal(sched_getaffinity(0, sizeof both, &both), 0);
	assert_true(CPU_EQUAL(&both, &ours));
}

static void
test_the_only_one(void **state)
{
	cpu_set_t before, one, helpers;

	(void)state;
	assert_int_equal(sched_getaffinity(0, sizeof before, &before), 0);
	CPU_ZERO(&one);
	for (int cpu = 0; CPU_COUNT(&one) == 0; cpu++) {
		if (CPU_ISSET(cpu, &before))
			CPU_SET(cpu, &one);
	}
	assert_int_equal(sched_setaffinity(0, sizeof one, &one), 0);
	helpers = processors_apart();
	assert_true(CPU_EQUAL(&helpers, &one));
	assert_int_equal(sched_setaffinity(0, sizeof before, &before), 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_all_but_one),
		cmocka_unit_test(test_the_only_one),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
