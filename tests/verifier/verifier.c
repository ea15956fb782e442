// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Has the running kernel's verifier take each program, one at a time so that one that is refused
 * does not hide the others, and prints what each cost it. Attaches and pins nothing. TAP-like
 * lines; exit 77 (skip) without the privilege, unless TPROXY_MUST_RUN is 1.
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
		} else {
			printf("ok %d - %s: %u instructions verified, %u bytes of machine code\n",
			       ++passed + failed, name, info.verified_insns, info.jited_prog_len);
		}
		free((char *)name);
	}
	printf("%d passed, %d failed\n", passed, failed);
	return failed || !passed ? EXIT_FAILURE : EXIT_SUCCESS;
}
