// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Has the running kernel's verifier take each program, one at a time so that one that is refused
 * does not hide the others, and prints what each cost it. A program that costs more than its bound
 * fails. Attaches and pins nothing. TAP-like lines; exit 77 (skip) without the privilege, unless
 * TPROXY_MUST_RUN is 1.
 *
 * To see it fail: leave out RULES_HIDE(below) in ruleindex_search().
 */
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "capture.skel.h"
#include "tproxy.skel.h"
#include "util.h"

/* The objects, as ELF files in memory. */
static const void *(*const elf_files[])(size_t *ret_size) = {
	tproxy_bpf__elf_bytes,
	capture_bpf__elf_bytes,
};

/*
 * The most instructions that the verifier may walk through: one and a half times what it takes on
 * Linux 6.18 with clang 14. On 6.1 and 6.12 it takes about as many. A load waits for all programs,
 * 1 to 2 us for each instruction, and the kernel refuses a program of a million. The number jumps
 * when a new compiler, or a harmless change, makes branches of what was arithmetic. A program may
 * have a higher bound for what it does, if its paths are as few as they can be (verifier.bpf.h).
 */
static const struct {
	const char *name;
	__u32 insns;
} bounds[] = {
	{ "tproxy_connect4", 39000 }, { "tproxy_connect6", 39000 },  { "tproxy_sockops", 20000 },
	{ "tproxy_release", 2600 },   { "tproxy_getpeer4", 50 },     { "tproxy_getpeer6", 100 },
	{ "tproxy_sockopt", 510 },    { "tproxy_sendmsg4", 15500 },  { "tproxy_sendmsg6", 15500 },
	{ "tproxy_egress", 18500 },   { "tproxy_block_out", 10500 }, { "tproxy_block_in", 5700 },
	{ "tproxy_xdp", 4000 },	      { "tproxy_sweep", 7000 },	     { "tproxy_sweep_now", 7000 },
	{ "tproxy_pick", 900 },	      { "tproxy_list", 2600 },	     { "tproxy_capture", 1800 },
};

/* Returns the bound of a program, 0 if it has none. */
static __u32 bound_of(const char *name)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(bounds); i++) {
		if (strcmp(bounds[i].name, name) == 0)
			return bounds[i].insns;
	}
	return 0;
}

/* Loads one program of an object. Returns 1 if it has no such program. */
static int load_only(size_t of, size_t wanted, const char **ret_name,
		     struct bpf_prog_info *ret_info)
{
	size_t size, i = 0;
	const void *elf = elf_files[of](&size);
	struct bpf_object *object = bpf_object__open_mem(elf, size, NULL);
	__u32 len = sizeof(*ret_info);
	struct bpf_program *prog;
	int r = 1;

	if (!object)
		return -errno;
	bpf_object__for_each_program(prog, object)
	{
		bpf_program__set_autoload(prog, i == wanted);
		if (i++ == wanted)
			*ret_name = strdup(bpf_program__name(prog));
	}
	if (wanted < i)
		r = bpf_object__load(object);
	bpf_object__for_each_program(prog, object)
	{
		if (r == 0 && strcmp(bpf_program__name(prog), *ret_name) == 0)
			r = bpf_obj_get_info_by_fd(bpf_program__fd(prog), ret_info, &len);
	}
	bpf_object__close(object);
	return r;
}

int main(void)
{
	int passed = 0, failed = 0;
	size_t of = 0, i = 0;

	if (geteuid() != 0) {
		const char *must_run = getenv("TPROXY_MUST_RUN");

		printf("SKIP: not root, the kernel would take no program\n");
		return must_run && strcmp(must_run, "1") == 0 ? EXIT_FAILURE : 77;
	}
	while (of < ARRAY_SIZE(elf_files)) {
		struct bpf_prog_info info = {};
		const char *name = NULL;
		int r = load_only(of, i, &name, &info);

		i++;
		if (r > 0) {
			of++;
			i = 0;
		} else if (r < 0) {
			printf("not ok %d - %s: %s\n", passed + ++failed, name ? name : "?",
			       strerror(-r));
		} else if (info.verified_insns > bound_of(name)) { /* 0 before Linux 5.16 */
			printf("not ok %d - %s: %u instructions verified, its bound is %u\n",
			       passed + ++failed, name, info.verified_insns, bound_of(name));
		} else {
			printf("ok %d - %s: %u instructions verified, %u bytes of machine code\n",
			       ++passed + failed, name, info.verified_insns, info.jited_prog_len);
		}
		free((char *)name);
	}
	printf("%d passed, %d failed\n", passed, failed);
	return failed || !passed ? EXIT_FAILURE : EXIT_SUCCESS;
}
