/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Bytes that are looked at in the page cache itself.
 */
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <string.h>

#include "common/image/copy-impl.h"
#include "common/image/io-impl.h"

/* Where this thread goes on if a mapped page cannot be read. */
static __thread sigjmp_buf *volatile guard;

static void
on_sigbus(int number)
{
	if (guard)
		siglongjmp(*guard, 1);
	signal(number, SIG_DFL);	/* nobody's page of ours: it comes again, and ends us */
}

static void
set_handler(void)
{
	/* Not blocked while it runs: it leaves by the jump, which restores no mask. */
	struct sigaction action = { .sa_handler = on_sigbus, .sa_flags = SA_NODEFER };

	sigaction(SIGBUS, &action, NULL);
}

void
smd_mapped_guard(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, set_handler);
}

int
smd_mapped_equal(const uint8_t *a, const uint8_t *b, size_t n)
{
	sigjmp_buf here;
	int r;

	if (sigsetjmp(here, 0) != 0) {
		guard = NULL;
		return -1;
	}
	guard = &here;
	/* The compiler knows no signal: it might look before the guard is up, or behind it. */
	atomic_signal_fence(memory_order_seq_cst);
	r = b ? memcmp(a, b, n) == 0 : copy_is_zero(a, n);
	atomic_signal_fence(memory_order_seq_cst);
	guard = NULL;
	return r;
}
