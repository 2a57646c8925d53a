/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Bytes that are looked at in the page cache itself.
 */
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/image/copy-impl.h"
#include "common/image/io-impl.h"

#define PIDFD_SELF (-10000)	/* this thread's; Linux 6.15 */

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

/* ---- Letting go ---- */

void
smd_seen_add(struct smd_seen *seen, uint8_t *start, size_t size)
{
	if (seen->n == SMD_SEEN_MAX || seen->size >= seen->limit)
		smd_seen_let_go(seen);
	seen->ranges[seen->n++] = (struct iovec){ start, size };
	seen->size += size;
}

/* Linux has one call for them all since 5.10, for one's own memory since 6.13, and tells the
 * other processors only once since 6.16. */
void
smd_seen_let_go(struct smd_seen *seen)
{
	if (seen->n > 0 && syscall(SYS_process_madvise, PIDFD_SELF, seen->ranges, seen->n,
				   MADV_DONTNEED, 0) != (long)seen->size) {
		for (size_t i = 0; i < seen->n; i++)
			(void)madvise(seen->ranges[i].iov_base, seen->ranges[i].iov_len,
				      MADV_DONTNEED);
	}
	seen->n = seen->size = 0;
}
