// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * The tables of common/objects.h against the BPF object that is built in: every map and program has
 * a row, with the sizes and types of its definition. The object is opened and not loaded, which
 * takes no privilege. To see it fail: change a size, a section or a type in objects.c, or leave out
 * a row.
 */
#include "objects.h"

#include <bpf/libbpf.h>
#include <stdio.h>
#include <string.h>

#include "tproxy.skel.h"
#include "unit.h"

static int open_object(void **state)
{
	*state = tproxy_bpf__open();
	return *state ? 0 : -1;
}

static int close_object(void **state)
{
	tproxy_bpf__destroy(*state);
	return 0;
}

static void each_map_has_its_row(void **state)
{
	const struct tproxy_bpf *skel = *state;
	struct bpf_map *map;
	int n = 0;

	bpf_object__for_each_map(map, skel->obj)
	{
		const struct pinned_map *row = pinned_map_by_name(bpf_map__name(map));

		if (bpf_map__is_internal(map))
			continue; /* constants of the programs, which are not pinned */
		if (!row)
			fail_msg("%s has no row", bpf_map__name(map));
		assert_int_equal(row->key_size, bpf_map__key_size(map));
		if (row->value_size)
			assert_int_equal(row->value_size, bpf_map__value_size(map));
		n++;
	}
	assert_int_equal(n, _PINNED_MAP_MAX);
}

static void each_program_has_its_row(void **state)
{
	const struct tproxy_bpf *skel = *state;
	struct bpf_program *prog;
	int n = 0;

	bpf_object__for_each_program(prog, skel->obj)
	{
		const char *name = bpf_program__name(prog);
		const struct hook *row =
			strncmp(name, "tproxy_", 7) ? NULL : hook_by_name(name + 7);

		if (strcmp(name, PINNED_LIST_PROGRAM) == 0)
			continue; /* no hook */
		if (!row)
			fail_msg("%s has no row", name);
		assert_string_equal(row->section, bpf_program__section_name(prog));
		assert_int_equal(row->prog_type, bpf_program__type(prog));
		assert_int_equal(row->attach_type, bpf_program__expected_attach_type(prog));
		n++;
	}
	assert_int_equal(n, _HOOK_MAX);
}

static void names_are_found(void **state)
{
	int i;

	for (i = 0; i < _PINNED_MAP_MAX; i++)
		assert_ptr_equal(pinned_map_by_name(pinned_maps[i].name), &pinned_maps[i]);
	for (i = 0; i < _HOOK_MAX; i++)
		assert_ptr_equal(hook_by_name(hooks[i].name), &hooks[i]);
	assert_ptr_equal(pinned_map_of_pin("ring_0"), &pinned_ring);
	assert_ptr_equal(pinned_map_of_pin("ring_31"), &pinned_ring);
	assert_null(pinned_map_of_pin("ring_32"));
	assert_null(pinned_map_of_pin("ring_01"));
	assert_null(pinned_map_of_pin("ring_"));
	assert_null(pinned_map_by_name("ring_0"));
	assert_ptr_equal(hook_of_program("prog_connect4"), &hooks[HOOK_CONNECT4]);
	assert_ptr_equal(hook_of_program("prog_sweep_now_new"), &hooks[HOOK_SWEEP_NOW]);
	assert_null(hook_of_program("connect4"));
	assert_null(hook_of_program("prog_connect4_old"));
	assert_null(pinned_map_by_name("map_"));
	assert_null(hook_by_name("connect"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(each_map_has_its_row, open_object, close_object),
		cmocka_unit_test_setup_teardown(each_program_has_its_row, open_object,
						close_object),
		cmocka_unit_test(names_are_found),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
