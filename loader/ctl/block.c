// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * tproxyctl block, unblock and allow: the command lines, the prefixes that they name, and what
 * changes of the list have in common. block_change.c changes entries, block_apply.c whole lists,
 * block_guard.c protects from lockout, block_show.c prints.
 */
#include "block.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "commands.h"
#include "log.h"
#include "options.h"
#include "quote.h"
#include "rules/prefix.h"
#include "state/maps.h"
#include "state/wait_lock.h"
#include "util.h"

static const struct ctl_usage block_usage = {
	.command = CTL_BLOCK,
	.synopsis =
		"CIDR... [--for DURATION] [--comment TEXT] [--error ERRNO]\n"
		"                       [--force] [--no-safety] [--json] [-p DIR]\n"
		"       tproxyctl block --apply FILE... [--confirm DURATION] [--comment TEXT]\n"
		"                       [--error ERRNO] [--force] [--no-safety] [--json] [-p DIR]\n"
		"       tproxyctl block --list|--stats [--watch] [--json] [-p DIR]\n"
		"       tproxyctl block --keep|--revert|--clear [--json] [-p DIR]",
	.about = "Blocks addresses and networks: connect() to them fails in the scopes, and their\n"
		 "packets are dropped, both ways, and at the interfaces of --xdp. Addresses that\n"
		 "`tproxyctl allow` names always pass. --apply replaces the entries that earlier\n"
		 "files brought, in one step; those of the command line stay.\n",
};

static const struct ctl_usage unblock_usage = {
	.command = CTL_UNBLOCK,
	.synopsis = "CIDR... [--force] [--no-safety] [--json] [-p DIR]",
	.about =
		"Removes the entries of exactly these addresses and networks from the block list,\n"
		"those of `block` and those of `allow`.\n",
};

static const struct ctl_usage allow_usage = {
	.command = CTL_ALLOW,
	.synopsis = "CIDR... [--for DURATION] [--comment TEXT] [--force] [--no-safety] [--json]\n"
		    "                       [-p DIR]",
	.about = "Lets addresses and networks pass, whatever the block list says.\n",
};

int block_work_begin(const char *pin_dir, struct block_work *work)
{
	uint32_t version;
	int r;

	r = maps_check_abi(pin_dir, &version);
	if (r == 0)
		r = pins_open(pin_dir, /* create= */ false, &work->pins);
	if (r == -ENOENT)
		log_err(MAPS_NOT_LOADED, pin_dir);
	return r < 0 ? r : block_store_open(&work->pins, &work->store);
}

static int log_held(const char *pin_dir)
{
	char quoted[SHELL_QUOTE_LEN(PATH_MAX)];

	shell_quote(pin_dir, quoted, sizeof(quoted));
	log_err("the list in force waits for confirmation; first run: tproxyctl block --keep -p %s, or: tproxyctl block --revert -p %s",
		quoted, quoted);
	return -EBUSY;
}

int block_work_begin_free(const char *pin_dir, struct block_work *work)
{
	int r = block_work_begin(pin_dir, work);

	if (r < 0 || !block_store_is_held(&work->store))
		return r;
	if (wait_lock_is_held(pin_dir, WAIT_LOCK_BLOCK))
		return log_held(pin_dir);
	log_warning(
		"the list in force was not confirmed, and the command that waited was killed: it is taken back first");
	return block_store_restore(&work->store);
}

void block_work_end(struct block_work *work)
{
	block_store_close(&work->store);
	pins_close(&work->pins);
}

static const char *why_no_prefix(enum prefix_result result)
{
	switch (result) {
	case PREFIX_NO_LENGTH:
		return "has no prefix length of the address's family";
	case PREFIX_BACKWARDS:
		return "is no range from a lower to a higher address of one family";
	default:
		return "is not an address, a CIDR or a range of addresses";
	}
}

/* Adds one operand. Returns 0, 2 after a usage error, or 1. Each is logged. */
static int add_operand(const struct ctl_options *options, const char *text,
		       const struct tproxy_block_entry *like, struct prefixes *prefixes,
		       struct block_items *items)
{
	const char *command = ctl_command_names[options->of_command];
	enum prefix_result result;
	char masked[PREFIX_FORMAT_LEN];
	size_t i;

	prefixes->n = 0;
	result = prefixes_parse(prefixes, text, strlen(text), /* mask= */ true);
	if (result != PREFIX_OK && result != PREFIX_MASKED) {
		log_err("%s: '%s' %s; try 'tproxyctl %s --help'", command, text,
			why_no_prefix(result), command);
		return 2;
	}
	if (result == PREFIX_MASKED)
		log_warning("'%s' has bits beyond its length; taken as %s", text,
			    prefix_format(&prefixes->list[0], masked, sizeof(masked)));
	for (i = 0; i < prefixes->n; i++) {
		if (prefix_is_loopback(&prefixes->list[i])) {
			log_err("%s: '%s' has loopback addresses, which always pass", command,
				text);
			return 2;
		}
		if (block_items_add(items, &prefixes->list[i], like) < 0) {
			log_out_of_memory();
			return 1;
		}
	}
	return 0;
}

int block_operands(const struct ctl_options *options, const struct tproxy_block_entry *like,
		   struct block_items *ret_items)
{
	struct prefixes prefixes = {};
	struct block_items items = {};
	int status = 0;
	size_t i;

	for (i = 0; i < options->n_operands && !status; i++)
		status = add_operand(options, options->operands[i], like, &prefixes, &items);
	prefixes_finish(&prefixes);
	block_items_sort(&items);
	*ret_items = items;
	return status;
}

int block_check_depth(const struct block_items *items)
{
	const struct block_item *item = block_items_too_deep(items);
	char text[PREFIX_FORMAT_LEN];

	if (!item)
		return 0;
	log_err("%s would be one of more than %d entries that end and lie within each other; give them no end, or another network",
		prefix_format(&item->prefix, text, sizeof(text)), TPROXY_BLOCK_ENDED_MAX);
	return -EINVAL;
}

static int run_block(const struct ctl_options *options)
{
	static int (*const actions[_CTL_BLOCK_MAX])(const struct ctl_options *options) = {
		[CTL_BLOCK_LIST] = block_show_list, [CTL_BLOCK_STATS] = block_show_stats,
		[CTL_BLOCK_APPLY] = block_apply,    [CTL_BLOCK_CLEAR] = block_clear,
		[CTL_BLOCK_KEEP] = block_keep,	    [CTL_BLOCK_REVERT] = block_revert,
	};

	if (options->of_command == CTL_UNBLOCK)
		return block_unblock(options);
	if (options->of_command == CTL_ALLOW)
		return block_add(options, TPROXY_ALLOW);
	return options->block_action == CTL_BLOCK_ADD ? block_add(options, TPROXY_BLOCK)
						      : actions[options->block_action](options);
}

static int run(int argc, char **argv, const struct ctl_usage *usage)
{
	struct ctl_options options;
	int r;

	r = ctl_options_parse(argc, argv, usage, &options);
	if (r)
		return r < 0 ? 2 : EXIT_SUCCESS;
	r = run_block(&options);
	free(options.operands);
	return r;
}

int ctl_block(int argc, char **argv)
{
	return run(argc, argv, &block_usage);
}

int ctl_unblock(int argc, char **argv)
{
	return run(argc, argv, &unblock_usage);
}

int ctl_allow(int argc, char **argv)
{
	return run(argc, argv, &allow_usage);
}
