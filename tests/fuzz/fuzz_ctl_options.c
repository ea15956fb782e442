// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * The options of tproxyctl's commands, for the kinds of commands: with the common options
 * only, with --cgroup, with --pid and its companions, with destinations, with a verb and a file,
 * with CIDRs.
 */
#include "argv.h"

#include "../../common/parse.c"
#define open   fuzz_open
#define fdopen fuzz_fdopen
#include "../../common/configfile.c"
#undef fdopen
#undef open
#include "../../common/opthelp.c"
#include "../../common/optable.c"
#include "../../common/optparse.c"
#include "../../loader/ctl/options.c"

static const struct ctl_usage usages[] = {
	{ CTL_STATUS, "[OPTION]...", "Looks.\n" },
	{ CTL_DOCTOR, "[OPTION]...", "Looks closer.\n" },
	{ CTL_REGISTER, "[OPTION]...", "Does.\n" },
	{ CTL_EXPLAIN, "[OPTION]...", "Tells.\n" },
	{ CTL_RULES, "[OPTION]...", "Rules.\n" },
	{ CTL_BLOCK, "[OPTION]...", "Blocks.\n" },
	{ CTL_UNBLOCK, "[OPTION]...", "Removes.\n" },
};

static void check_process(const struct ctl_usage *usage, const struct ctl_options *o)
{
	const bool process = usage->command == CTL_REGISTER;
	size_t i, j;

	require(usage->command == CTL_EXPLAIN || process == (o->pid != 0));
	require(o->pid >= 0 && o->pid <= PID_MAX);
	require(process || (!o->remove && o->n_ports == 0));
	require(!o->remove || o->n_ports == 0);
	require(o->n_ports <= TPROXY_PORTS_MAX);
	for (i = 0; i < o->n_ports; i++) {
		require(o->ports[i] != 0);
		for (j = 0; j < i; j++)
			require(o->ports[i] != o->ports[j]);
	}
}

static void check_destinations(const struct ctl_usage *usage, const struct ctl_options *o)
{
	const bool facts = o->has_uid || o->has_gid || *o->command;
	size_t i;

	require(usage->command == CTL_EXPLAIN || !(o->n_destinations || o->batch));
	require(usage->command != CTL_EXPLAIN || o->n_destinations || o->batch);
	require(o->n_destinations <= CTL_DESTINATIONS_MAX);
	require(usage->command == CTL_EXPLAIN || !facts);
	require(!o->pid || !facts);
	require(memchr(o->command, '\0', sizeof(o->command)));
	for (i = 0; i < o->n_destinations; i++)
		require(o->destinations[i].sa.sa_family == AF_INET ||
			o->destinations[i].sa.sa_family == AF_INET6);
}

static void check_verb(const struct ctl_usage *usage, const struct ctl_options *o)
{
	require((usage->command == CTL_RULES) == (o->verb != CTL_RULES_NONE));
	require(o->verb < _CTL_RULES_MAX);
	require(!*o->file == !operand_takes_file(o->verb));
	require(!o->confirm_ms || o->verb == CTL_RULES_LOAD || o->block_action == CTL_BLOCK_APPLY);
	require(o->verb == CTL_RULES_CHECK || (!o->no_resolve && !o->verbose));
}

static void check_block(const struct ctl_usage *usage, const struct ctl_options *o)
{
	const bool change = o->block_action == CTL_BLOCK_ADD || o->block_action == CTL_BLOCK_APPLY;
	size_t i;

	require(usage->command == CTL_BLOCK || o->block_action == CTL_BLOCK_ADD);
	require(block_options_are_of(usage->command) || !o->n_operands);
	require(!block_options_are_of(usage->command) || !o->n_operands == !change);
	require(change || (!o->force && !o->no_safety && !o->for_ms && !o->error));
	require(memchr(o->comment, '\0', sizeof(o->comment)));
	for (i = 0; i < o->n_operands; i++)
		require(*o->operands[i]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct ctl_options o, poison;
	struct fuzz_argv a;
	size_t i;
	int r;

	memset(&poison, 0xa5, sizeof(poison));
	for (i = 0; i < sizeof(usages) / sizeof(usages[0]); i++) {
		memcpy(&o, &poison, sizeof(o));
		fuzz_argv_init(&a, "doctor", data, size);
		fuzz_logged = 0;
		r = ctl_options_parse(a.argc, a.argv, &usages[i], &o);
		require(r == 0 || r == 1 || r == -EINVAL);
		require((r == -EINVAL) == (fuzz_logged == 1));
		if (r != 0) {
			require(fuzz_logged <= 1);
			require(memcmp(&o, &poison, sizeof(o)) == 0);
		} else {
			require(*o.pin_dir);
			require(!*o.cgroup || usages[i].command == CTL_DOCTOR ||
				usages[i].command == CTL_EXPLAIN);
			check_process(&usages[i], &o);
			check_destinations(&usages[i], &o);
			check_verb(&usages[i], &o);
			check_block(&usages[i], &o);
			free(o.operands);
		}
		fuzz_argv_finish(&a);
	}
	return 0;
}
