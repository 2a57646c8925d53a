/* SPDX-License-Identifier: BSD-2-Clause */
/* Which image lies on which, from what they say of themselves. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "daemon/sr/images.h"
#include "daemon/sr/tree.h"

#define N_MAX 40
#define U1 "11111111-0000-4000-8000-000000000000"
#define U2 "22222222-0000-4000-8000-000000000000"

static struct look looks[N_MAX];
static struct image images[N_MAX];
static char names[N_MAX][16];
static size_t n;

/* Texts are constants here; looks are never freed. */
static struct image *
add(const char *location, const char *parent, const char *parent_format)
{
	const char *dot = strrchr(location, '.');
	struct look *look = &looks[n];
	struct image *image = &images[n++];

	*look = (struct look){
		.why = "", .uuid = "", .parent_uuid = "", .has_parent = *parent,
		.parent_name = parent, .parent_format = parent_format, .virtual_size = 1,
	};
	*image = (struct image){ .location = location, .format = dot + 1, .look = look };
	return image;
}

static struct look *
look_of(const struct image *image)
{
	return &looks[image - images];
}

static int
clean(void **state)
{
	(void)state;
	images_done(images, n);
	n = 0;
	return 0;
}

static void
assert_why(const struct image *image, const char *text)
{
	if (!strstr(image->why, text))
		fail_msg("%s: \"%s\" does not say %s", image->location, image->why, text);
	assert_null(image->parent);
}

static void
test_chain(void **state)
{
	struct image *leaf = add("leaf.vhd", ".\\middle.vhd", "vhd");
	struct image *middle = add("middle.vhd", "./base.raw", "raw");
	struct image *other = add("other.vhd", "base.raw", "raw");
	struct image *base = add("base.raw", "", "");

	(void)state;
	images_resolve(images, n);
	assert_ptr_equal(leaf->parent, middle);
	assert_ptr_equal(middle->parent, base);
	assert_ptr_equal(other->parent, base);
	assert_null(base->parent);
	assert_int_equal(leaf->depth, 3);
	assert_int_equal(base->depth, 1);
	assert_int_equal(base->n_children, 2);
	for (size_t i = 0; i < n; i++)
		assert_string_equal(images[i].why, "");
}

static void
test_names_that_are_no_volumes(void **state)
{
	static const char *const bad[] = {
		"/etc/passwd", "../a.raw", "fat:/etc", "sub/a.raw", "..\\a.raw", ".", "..", "./",
		"json:{}", "nbd:a", "//", ".\\",
	};

	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		add("a.qcow2", bad[i], "raw");
	images_resolve(images, n);
	for (size_t i = 0; i < n; i++)
		assert_why(&images[i], "IMAGE_UNSUPPORTED EXTERNAL_REF: ");
}

static void
test_faults_and_who_bears_them(void **state)
{
	struct image *missing = add("missing.qcow2", "none.qcow2", "qcow2");
	struct image *child = add("child.qcow2", "missing.qcow2", "qcow2");
	struct image *grandchild = add("grandchild.qcow2", "child.qcow2", "qcow2");
	struct image *broken = add("broken.vhd", "", "");
	struct image *on_broken = add("on-broken.vhd", "broken.vhd", "vhd");
	struct image *format = add("format.qcow2", "broken.vhd", "raw");
	struct image *unsaid = add("unsaid.qcow2", "broken.vhd", "");

	(void)state;
	look_of(broken)->why = "IMAGE_CORRUPT BAD_CHECKSUM: of the footer";
	images_resolve(images, n);
	assert_why(missing, "IMAGE_CORRUPT MISSING_PARENT: its parent none.qcow2");
	assert_ptr_equal(child->parent, missing);
	assert_string_equal(child->why, "IMAGE_CORRUPT MISSING_PARENT: missing.qcow2, which it lies on: "
			    "its parent none.qcow2 is not in the SR");
	assert_string_equal(grandchild->why, child->why);
	assert_ptr_equal(on_broken->parent, broken);
	assert_string_equal(on_broken->why, "IMAGE_CORRUPT BAD_CHECKSUM: broken.vhd, which it lies on: "
			    "of the footer");
	assert_why(format, "BACKING_FORMAT");
	assert_why(unsaid, "BACKING_FORMAT");
}

static void
test_cycles(void **state)
{
	struct image *above = add("above.vhd", "a.vhd", "vhd");
	struct image *a = add("a.vhd", "b.vhd", "vhd");
	struct image *b = add("b.vhd", "c.vhd", "vhd");
	struct image *c = add("c.vhd", "a.vhd", "vhd");
	struct image *self = add("self.vhd", "self.vhd", "vhd");

	(void)state;
	images_resolve(images, n);
	assert_why(a, "CHAIN_CYCLE");
	assert_why(b, "CHAIN_CYCLE");
	assert_why(c, "CHAIN_CYCLE");
	assert_why(self, "CHAIN_CYCLE");
	assert_ptr_equal(above->parent, a);
	assert_non_null(strstr(above->why, "CHAIN_CYCLE: a.vhd, which it lies on"));
}

static void
test_depth(void **state)
{
	(void)state;
	for (size_t i = 0; i < N_MAX; i++)
		snprintf(names[i], sizeof names[i], "%02zu.vhd", i);
	for (size_t i = 0; i < N_MAX; i++)
		add(names[i], i + 1 < N_MAX ? names[i + 1] : "", "vhd");
	images_resolve(images, n);
	assert_int_equal(images[N_MAX - TREE_LAYERS_MAX].depth, TREE_LAYERS_MAX);
	assert_string_equal(images[N_MAX - TREE_LAYERS_MAX].why, "");
	assert_why(&images[N_MAX - TREE_LAYERS_MAX - 1], "CHAIN_DEPTH");
	assert_non_null(strstr(images[0].why, "CHAIN_DEPTH"));
}

static void
test_uuids(void **state)
{
	struct image *renamed = add("renamed.vhd", "gone.vhd", "vhd");
	struct image *mistaken = add("mistaken.vhd", "base.vhd", "vhd");
	struct image *wrong = add("wrong.vhd", "base.vhd", "vhd");
	struct image *ambiguous = add("ambiguous.vhd", "gone.vhd", "vhd");
	struct image *base = add("base.vhd", "", ""), *second = add("second.vhd", "", "");
	struct image *copy = add("copy.vhd", "", ""), *copied = add("copied.vhd", "", "");

	(void)state;
	look_of(base)->uuid = U1;
	look_of(second)->uuid = U2;
	look_of(copy)->uuid = look_of(copied)->uuid = "copied";
	look_of(renamed)->parent_uuid = U1;
	look_of(mistaken)->parent_uuid = U2;
	look_of(wrong)->parent_uuid = "other";
	look_of(ambiguous)->parent_uuid = "copied";
	images_resolve(images, n);
	assert_ptr_equal(renamed->parent, base);
	assert_ptr_equal(mistaken->parent, second);
	assert_why(wrong, "PARENT_MISMATCH");
	assert_why(ambiguous, "MISSING_PARENT");
}

/* It says so, and keeps nothing that lies on it from being read. */
static void
test_degraded(void **state)
{
	struct image *leaf = add("leaf.vhd", "base.vhd", "vhd"), *base = add("base.vhd", "", "");

	(void)state;
	look_of(base)->degraded = true;
	images_resolve(images, n);
	assert_ptr_equal(leaf->parent, base);
	assert_string_equal(leaf->why, "");
	assert_string_equal(base->why, LOOK_DEGRADED);
}

/* An image that says nothing usable is as the records of the SR have it. */
static void
test_recorded(void **state)
{
	struct image *unread = add("unread.vhd", "", ""), *astray = add("astray.vhd", "gone.vhd", "vhd");
	struct image *moved = add("moved.vhd", "other.vhd", "vhd");
	struct image *base = add("base.vhd", "", ""), *other = add("other.vhd", "", "");

	(void)state;
	look_of(unread)->why = "IMAGE_CORRUPT BAD_COOKIE: no";
	unread->known_parent = astray->known_parent = moved->known_parent = base;
	images_resolve(images, n);
	assert_ptr_equal(unread->parent, base);
	assert_ptr_equal(astray->parent, base);
	assert_string_equal(astray->why, "");
	assert_ptr_equal(moved->parent, other);
}

/* What the database knows goes before the names; what contradicts it is said. */
static void
test_known(void **state)
{
	struct image *moved = add("moved.vhd", "old-name.vhd", "vhd");
	struct image *flat = add("flat.vhd", "", "");
	struct image *unread = add("unread.vhd", "", "");
	struct image *busy = add("busy.vhd", "", ""), *base = add("base.vhd", "", "");

	(void)state;
	moved->known_parent = flat->known_parent = unread->known_parent = busy->known_parent = base;
	moved->is_linked = flat->is_linked = unread->is_linked = busy->is_linked = true;
	look_of(unread)->why = "IMAGE_CORRUPT BAD_COOKIE: no";
	busy->look = NULL;
	images_resolve(images, n);
	assert_ptr_equal(moved->parent, base);
	assert_string_equal(moved->why, "");
	assert_ptr_equal(flat->parent, base);
	assert_non_null(strstr(flat->why, "PARENT_MISMATCH"));
	assert_ptr_equal(unread->parent, base);
	assert_ptr_equal(busy->parent, base);
	assert_null(busy->why);
	assert_int_equal(base->n_children, 4);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(test_chain, clean),
		cmocka_unit_test_teardown(test_names_that_are_no_volumes, clean),
		cmocka_unit_test_teardown(test_faults_and_who_bears_them, clean),
		cmocka_unit_test_teardown(test_cycles, clean),
		cmocka_unit_test_teardown(test_depth, clean),
		cmocka_unit_test_teardown(test_uuids, clean),
		cmocka_unit_test_teardown(test_degraded, clean),
		cmocka_unit_test_teardown(test_recorded, clean),
		cmocka_unit_test_teardown(test_known, clean),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
