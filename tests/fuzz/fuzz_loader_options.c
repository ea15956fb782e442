// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * The command line of tproxy-load and the section [load] of its file. Accepted input gives
 * consistent options, and the same ones when parsed again. Refused input gives a message and leaves
 * the result unchanged.
 */
#include "argv.h"

#include <grp.h>

#include "../../common/parse.c"
#define open   fuzz_open
#define fdopen fuzz_fdopen
#include "../../common/configfile.c"
#undef fdopen
#undef open
#include "../../common/opthelp.c"
#include "../../common/optable.c"
#include "../../common/optparse.c"

/* Replaces the host's group database, which is not part of the input. */
static struct group *fuzz_getgrnam(const char *name)
{
	static struct group tproxy = { .gr_name = (char *)"tproxy", .gr_gid = 4711 };

	return strcmp(name, tproxy.gr_name) == 0 ? &tproxy : NULL;
}

#define getgrnam fuzz_getgrnam
#include "../../loader/load/options.c"
#undef getgrnam

static void check_sense(const struct load_options *o)
{
	size_t i;

	require(*o->pin_dir && memchr(o->pin_dir, '\0', sizeof(o->pin_dir)));
	require(memchr(o->relay_cgroup, '\0', sizeof(o->relay_cgroup)));
	for (i = 0; i < o->n_cgroups; i++)
		require(o->cgroups[i] && *o->cgroups[i]);
	require(o->relay_gid != (gid_t)-1);
	require(!o->json || o->mode == OPTIONS_STATUS);
	require(!o->all || o->n_cgroups == 0);
	if (o->mode == OPTIONS_LOAD || o->mode == OPTIONS_CHECK)
		require(o->all || o->n_cgroups > 0 || o->again);
	require(o->mode == OPTIONS_LOAD || o->mode == OPTIONS_UNLOAD || o->mode == OPTIONS_STATUS ||
		o->mode == OPTIONS_CHECK || o->mode == OPTIONS_FOLLOW);
	require(o->n_xdp <= LOAD_OPTIONS_XDP_MAX && o->xdp_mode <= TPROXY_XDP_GENERIC);
	for (i = 0; i < o->n_xdp; i++)
		require(*o->xdp[i] && memchr(o->xdp[i], '\0', IFNAMSIZ) &&
			!strpbrk(o->xdp[i], "/: "));
}

static void check_same(const struct load_options *a, const struct load_options *b)
{
	size_t i;

	require(a->mode == b->mode && a->relay_gid == b->relay_gid);
	require(a->fail_closed == b->fail_closed && a->include_loopback == b->include_loopback);
	require(a->all == b->all && a->again == b->again && a->force == b->force);
	require(a->json == b->json && a->verbose == b->verbose);
	require(strcmp(a->pin_dir, b->pin_dir) == 0);
	require(strcmp(a->relay_cgroup, b->relay_cgroup) == 0);
	require(a->n_cgroups == b->n_cgroups);
	for (i = 0; i < a->n_cgroups; i++)
		require(strcmp(a->cgroups[i], b->cgroups[i]) == 0);
	require(a->n_xdp == b->n_xdp && a->xdp_mode == b->xdp_mode);
	for (i = 0; i < a->n_xdp; i++)
		require(strcmp(a->xdp[i], b->xdp[i]) == 0);
}

static int parse(const uint8_t *data, size_t size, struct load_options *o)
{
	struct fuzz_argv a;
	int r;

	fuzz_argv_init(&a, "tproxy-load", data, size);
	fuzz_logged = 0;
	r = load_options_parse(a.argc, a.argv, o);
	fuzz_argv_finish(&a);
	return r;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct load_options o, again, poison;
	int r;

	memset(&poison, 0xa5, sizeof(poison));
	memcpy(&o, &poison, sizeof(o));
	r = parse(data, size, &o);
	require(r == 0 || r == 1 || r == -EINVAL);
	require((r == -EINVAL) == (fuzz_logged > 0));
	if (r != 0) {
		require(memcmp(&o, &poison, sizeof(o)) == 0);
		return 0;
	}
	check_sense(&o);
	require(parse(data, size, &again) == 0);
	check_same(&o, &again);
	load_options_finish(&o);
	load_options_finish(&again);
	return 0;
}
