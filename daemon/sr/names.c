/* SPDX-License-Identifier: BSD-2-Clause */
#include "daemon/sr/names.h"

#include <string.h>
#include <sys/random.h>

#include "common/clock.h"
#include "common/mem.h"

#define FIRST_SLOTS 64u

/* The one that has the name, or the free one where it belongs. */
static struct name_slot *
slot_of(const struct names *names, const char *name, uint64_t hash)
{
	size_t i = hash & (names->n_slots - 1);

	while (names->slots[i].name &&
	       (names->slots[i].hash != hash || strcmp(names->slots[i].name, name) != 0))
		i = (i + 1) & (names->n_slots - 1);
	return &names->slots[i];
}

/* Eight bytes at a time: Fibonacci hashing (the golden ratio of 2^64), folded, so that what is
 * multiplied comes down to the bits that count. */
static uint64_t
hash_of(const struct names *names, const char *name)
{
	size_t len = strlen(name);
	uint64_t hash = names->seed ^ len;

	for (size_t i = 0; i < len; i += sizeof hash) {
		uint64_t part = 0;

		memcpy(&part, name + i, len - i < sizeof part ? len - i : sizeof part);
		hash = (hash ^ part) * UINT64_C(0x9e3779b97f4a7c15);
		hash ^= hash >> 32;
	}
	return hash;
}

/* At most half of the slots are taken. */
static void
grow(struct names *names)
{
	struct names larger = { .n_slots = names->n_slots ? 2 * names->n_slots : FIRST_SLOTS,
				.n = names->n, .seed = names->seed };

	if (names->n_slots == 0 &&
	    getrandom(&larger.seed, sizeof larger.seed, 0) != (ssize_t)sizeof larger.seed)
		larger.seed = smd_now_ms();
	larger.slots = smd_calloc(larger.n_slots, sizeof *larger.slots);
	for (size_t i = 0; i < names->n_slots; i++) {
		const struct name_slot *slot = &names->slots[i];

		if (slot->name)
			*slot_of(&larger, slot->name, slot->hash) = *slot;
	}
	free(names->slots);
	*names = larger;
}

bool
names_add(struct names *names, const char *name, size_t at)
{
	struct name_slot *slot;
	uint64_t hash;

	if (2 * names->n >= names->n_slots)
		grow(names);
	hash = hash_of(names, name);
	slot = slot_of(names, name, hash);
	if (slot->name)
		return false;
	*slot = (struct name_slot){ name, hash, at };
	names->n++;
	return true;
}

bool
names_find(const struct names *names, const char *name, size_t *ret_at)
{
	const struct name_slot *slot;

	if (names->n == 0)
		return false;
	slot = slot_of(names, name, hash_of(names, name));
	if (!slot->name)
		return false;
	*ret_at = slot->at;
	return true;
}

void
names_done(struct names *names)
{
	free(names->slots);
	*names = (struct names){ NULL, 0, 0, 0 };
}
