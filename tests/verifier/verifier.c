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

#include "tproxy.skel.h"
#include "util.h"

static int load_only(size_t wanted, const char **ret_name, struct bpf_prog_info *ret_info)
{
	struct tproxy_bpf *skel = tproxy_bpf__open();
	__u32 len = sizeof(*ret_info);
	struct bpf_program *prog;
	size_t i = 0;
	int r = 1;

	if (!skel)
		return -errno;
	bpf_object__for_each_program(prog, skel->obj)
	{
		bpf_program__set_autoload(prog, i == wanted);
		if (i++ == wanted)
			*ret_name = strdup(bpf_program__name(prog));
	}
	if (wanted < i)
		r = tproxy_bpf__load(skel);
	bpf_object__for_each_program(prog, skel->obj)
	{
		if (r == 0 && strcmp(bpf_program__name(prog), *ret_name) == 0)
			r = bpf_obj_get_info_by_fd(bpf_program__fd(prog), ret_info, &len);
	}
	tproxy_bpf__destroy(skel);
	return r;
}

int main(void)
{
	int passed = 0, failed = 0;
	size_t i;

	if (geteuid() != 0) {
		const char *must_run = getenv("TPROXY_MUST_RUN");

		printf("SKIP: not root, the kernel would take no program\n");
		return must_run && strcmp(must_run, "1") == 0 ? EXIT_FAILURE : 77;
	}
	for (i = 0;; i++) {
		struct bpf_prog_info info = {};
		const char *name = NULL;
		int r = load_only(i, &name, &info);

		if (r > 0)
			break;
		if (r < 0) {
			printf("not ok %zu - %s: %s\n", i + 1, name ? name : "?", strerror(-r));
			failed++;
		} else {
			printf("ok %zu - %s: %u instructions verified, %u bytes of machine code\n",
			       i + 1, name, info.verified_insns, info.jited_prog_len);
			passed++;
		}
		free((char *)name);
	}
	printf("%d passed, %d failed\n", passed, failed);
	return failed || !passed ? EXIT_FAILURE : EXIT_SUCCESS;
}
