// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * The options of tproxyctl's commands: one table, in which a row says which commands take it.
 * common/optparse.c does the rest. Every option is in tproxyctl.8.scd too.
 */
#include "options.h"

#include <stdio.h>
#include <stdlib.h>

#include "block_options.h"
#include "capture/pcapng.h"
#include "config.h"
#include "operand.h"
#include "optable.h"
#include "opthelp.h"
#include "option_checks.h"
#include "option_values.h"
#include "optparse.h"
#include "top_table.h"
#include "util.h"
#include "version.h"

/* PID_MAX_LIMIT of a 64-bit kernel, include/linux/threads.h. */
#define PID_MAX (4 * 1024 * 1024)

/* For optable_row.commands. */
#define BIT(command) (1U << (command))
#define ALL_COMMANDS (BIT(_CTL_COMMAND_MAX) - 1 - BIT(CTL_NONE))

const char *const ctl_command_names[_CTL_COMMAND_MAX + 1] = {
	[CTL_NONE] = "-",	   [CTL_STATUS] = "status",	[CTL_CONNECTIONS] = "connections",
	[CTL_DOCTOR] = "doctor",   [CTL_REGISTER] = "register", [CTL_EXPLAIN] = "explain",
	[CTL_RULES] = "rules",	   [CTL_RUN] = "run",		[CTL_TOP] = "top",
	[CTL_WATCH] = "watch",	   [CTL_CAPTURE] = "capture",	[CTL_BLOCK] = "block",
	[CTL_UNBLOCK] = "unblock", [CTL_ALLOW] = "allow",	[CTL_UPSTREAMS] = "upstreams",
};

static const struct optable_row rows[] = {
	{
		.name = "pid",
		.arg = "PID",
		OPTABLE_CUSTOM(option_set_pid),
		.min = 1,
		.max = PID_MAX,
		.flags = OPTABLE_REPEATED,
		.commands = BIT(CTL_EXPLAIN) | CTL_FILTERED,
		.help = "the process",
	},
	{
		.name = "pid",
		.arg = "PID",
		OPTABLE_CUSTOM(option_set_pid),
		.min = 1,
		.max = PID_MAX,
		.flags = OPTABLE_REPEATED,
		.commands = BIT(CTL_REGISTER),
		.help = "the process that listens, or whose children do",
	},
	{
		.name = "port",
		.arg = "PORT",
		OPTABLE_CUSTOM(option_add_port),
		.min = 1,
		.max = UINT16_MAX,
		.flags = OPTABLE_REPEATED,
		.commands = BIT(CTL_REGISTER),
		.help = "a port at which it listens",
	},
	{
		.name = "port",
		.arg = "PORT",
		OPTABLE_CUSTOM(option_add_port),
		.flags = OPTABLE_REPEATED,
		.commands = CTL_FILTERED,
		.help = "the port of the destination, or FIRST-LAST",
	},
	{
		.name = "remove",
		OPTABLE_FLAG(struct ctl_options, remove),
		.commands = BIT(CTL_REGISTER),
		.help = "remove the registration of that process",
	},
	{
		.name = "cgroup",
		.short_name = 'c',
		.arg = "PATH",
		OPTABLE_CUSTOM(option_set_cgroup),
		.flags = OPTABLE_REPEATED,
		.commands = BIT(CTL_EXPLAIN) | (CTL_FILTERED & ~BIT(CTL_CAPTURE)),
		.help = "the cgroup of the process",
	},
	{
		.name = "cgroup",
		.short_name = 'c',
		.arg = "PATH",
		OPTABLE_CUSTOM(option_set_cgroup),
		.flags = OPTABLE_REPEATED,
		.commands = BIT(CTL_DOCTOR),
		.help = "a cgroup to check too",
	},
	/* capture has -c for --count, as other programs that capture. */
	{
		.name = "cgroup",
		.arg = "PATH",
		OPTABLE_CUSTOM(option_set_cgroup),
		.flags = OPTABLE_REPEATED,
		.commands = BIT(CTL_CAPTURE),
		.help = "the cgroup of the process",
	},
	{
		.name = "uid",
		.arg = "UID",
		OPTABLE_CUSTOM(option_set_uid),
		.min = 0,
		.max = UINT32_MAX - 1,
		.flags = OPTABLE_REPEATED,
		.commands = BIT(CTL_EXPLAIN),
		.help = "the user of the process",
	},
	{
		.name = "uid",
		.arg = "USER",
		OPTABLE_CUSTOM(option_set_uid),
		.flags = OPTABLE_REPEATED,
		.commands = CTL_FILTERED,
		.help = "the user of the process, by number or name",
	},
	{
		.name = "gid",
		.arg = "GID",
		OPTABLE_NUMBER(struct ctl_options, gid, 0, UINT32_MAX - 1),
		.commands = BIT(CTL_EXPLAIN),
		.help = "the group of the process",
	},
	{
		.name = "command",
		.arg = "NAME",
		OPTABLE_CUSTOM(option_set_command),
		.flags = OPTABLE_REPEATED,
		.commands = BIT(CTL_EXPLAIN) | CTL_FILTERED,
		.help = "the command of the process",
	},
	{
		.name = "to",
		.arg = "ADDR[/BITS]",
		OPTABLE_CUSTOM(option_add_to),
		.flags = OPTABLE_REPEATED,
		.commands = CTL_FILTERED,
		.help = "the address of the destination, or its network",
	},
	{
		.name = "verdict",
		.arg = "VERDICT",
		OPTABLE_CUSTOM(option_add_verdict),
		.flags = OPTABLE_REPEATED,
		.commands = CTL_FILTERED,
		.help = "what was decided; redirected, direct, observed or refused",
	},
	{
		.name = "batch",
		OPTABLE_FLAG(struct ctl_options, batch),
		.commands = BIT(CTL_EXPLAIN),
		.help = "read destinations from stdin too, one ADDR:PORT a line",
	},
	{
		.name = "strict",
		OPTABLE_FLAG(struct ctl_options, strict),
		.commands = BIT(CTL_DOCTOR),
		.help = "exit status 1 for a warning too; such as when nothing is loaded",
	},
	{
		.name = "confirm",
		.arg = "DURATION",
		OPTABLE_DURATION_IN(struct ctl_options, confirm_ms, 1000, 3600 * 1000),
		.flags = OPTABLE_POSITIVE,
		.commands = BIT(CTL_RULES),
		.help = "load: take the rules back unless they are confirmed within this time",
	},
	{
		.name = "verbose",
		.short_name = 'v',
		OPTABLE_FLAG(struct ctl_options, verbose),
		.commands = BIT(CTL_RULES),
		.help = "check: print the rules and the sets too",
	},
	{
		.name = "no-resolve",
		OPTABLE_FLAG(struct ctl_options, no_resolve),
		.commands = BIT(CTL_RULES),
		.help = "check: look up no host name, user, group or cgroup",
	},
	{
		.name = "rules",
		.arg = "FILE",
		OPTABLE_PATH(struct ctl_options, rules),
		.flags = OPTABLE_ONCE,
		.commands = BIT(CTL_RUN),
		.help = "rules for this command only; tproxy-rules(5)",
	},
	{
		.name = "observe",
		OPTABLE_FLAG(struct ctl_options, observe),
		.commands = BIT(CTL_RUN),
		.help = "log the connections that go direct; without --rules all of them do",
	},
	{
		.name = "write-rules",
		.arg = "FILE",
		OPTABLE_PATH(struct ctl_options, write_rules),
		.flags = OPTABLE_ONCE,
		.commands = BIT(CTL_RUN),
		.help = "write rules that allow the observed connections and no others; with --observe",
	},
	{
		.name = "fail-closed",
		OPTABLE_FLAG(struct ctl_options, fail_closed),
		.commands = BIT(CTL_RUN),
		.help = "refuse connections that no relay can take",
	},
	{
		.name = "via",
		.arg = "NAME",
		OPTABLE_CUSTOM(option_set_via),
		.flags = OPTABLE_ONCE,
		.commands = BIT(CTL_RUN),
		.help = "the upstream of the relay for this command's connections",
	},
	{
		.name = "by",
		.arg = "WHAT",
		OPTABLE_WORD(struct ctl_options, by, enum top_by, top_by_names),
		.by_default = "connection",
		.commands = BIT(CTL_TOP),
		.help = "what a line is; a connection, or all of a program, destination, cgroup or user; traffic: all packets of a cgroup",
	},
	{
		.name = "sort",
		.arg = "COLUMN",
		OPTABLE_WORD(struct ctl_options, sort, enum top_column, top_column_names),
		.by_default = "rate",
		.commands = BIT(CTL_TOP),
		.help = "the column that orders the lines",
	},
	{
		.name = "delay",
		.short_name = 'd',
		.arg = "DELAY",
		OPTABLE_CUSTOM(option_set_delay),
		.by_default = "1",
		.commands = BIT(CTL_TOP),
		.help = "time between two samples; seconds, such as 0.5",
	},
	{
		.name = "once",
		OPTABLE_FLAG(struct ctl_options, once),
		.commands = BIT(CTL_TOP),
		.help = "print one table to stdout after one interval",
	},
	{
		.name = "fate",
		.arg = "FATE",
		OPTABLE_CUSTOM(option_add_fate),
		.flags = OPTABLE_REPEATED,
		.commands = BIT(CTL_WATCH),
		.help = "only ends of this kind; such as failed, closed, reset-by-server, refused",
	},
	{
		.name = "inbound",
		OPTABLE_FLAG(struct ctl_options, inbound),
		.commands = BIT(CTL_WATCH),
		.help = "print accepted connections too",
	},
	{
		.name = "for",
		.arg = "DURATION",
		OPTABLE_DURATION(struct ctl_options, for_ms),
		.flags = OPTABLE_POSITIVE,
		.commands = BIT(CTL_WATCH),
		.help = "end after this time",
	},
	{
		.name = "admin",
		.arg = "ADDRESS",
		OPTABLE_PATH(struct ctl_options, admin),
		.by_default = "/run/tproxy/admin.sock",
		.flags = OPTABLE_ONCE,
		.commands = BIT(CTL_UPSTREAMS),
		.help = "the relay's admin address; the path of a UNIX socket, or ADDR:PORT",
	},
	{
		.name = "list",
		OPTABLE_CUSTOM(block_options_set_action),
		.commands = BIT(CTL_BLOCK),
		.help = "print the entries with their counts",
	},
	{
		.name = "stats",
		OPTABLE_CUSTOM(block_options_set_action),
		.commands = BIT(CTL_BLOCK),
		.help = "print what was seen and dropped at each place",
	},
	{
		.name = "watch",
		OPTABLE_FLAG(struct ctl_options, watch),
		.commands = BIT(CTL_BLOCK),
		.help = "--stats: print again every second",
	},
	{
		.name = "apply",
		.arg = "FILE",
		OPTABLE_CUSTOM(block_options_set_action),
		.flags = OPTABLE_REPEATED,
		.commands = BIT(CTL_BLOCK),
		.help = "replace the entries of files by those of these; - is stdin",
	},
	{
		.name = "keep",
		OPTABLE_CUSTOM(block_options_set_action),
		.commands = BIT(CTL_BLOCK),
		.help = "keep a list that was applied with --confirm",
	},
	{
		.name = "revert",
		OPTABLE_CUSTOM(block_options_set_action),
		.commands = BIT(CTL_BLOCK),
		.help = "take back a list that was applied with --confirm",
	},
	{
		.name = "clear",
		OPTABLE_CUSTOM(block_options_set_action),
		.commands = BIT(CTL_BLOCK),
		.help = "remove all entries, the allowed ones too, and the errno of --error",
	},
	{
		.name = "comment",
		.arg = "TEXT",
		OPTABLE_CUSTOM(block_options_set_comment),
		.commands = BIT(CTL_BLOCK),
		.help = "a text that --list shows; --apply: instead of the file's name",
	},
	{
		.name = "comment",
		.arg = "TEXT",
		OPTABLE_CUSTOM(block_options_set_comment),
		.commands = BIT(CTL_ALLOW),
		.help = "a text that --list shows",
	},
	{
		.name = "error",
		.arg = "ERRNO",
		OPTABLE_CUSTOM(block_options_set_error),
		.commands = BIT(CTL_BLOCK),
		.help = "what connect() to a blocked address fails with, for all of the list, EACCES by default; stays for later commands, until another --error or --clear",
	},
	{
		.name = "force",
		OPTABLE_FLAG(struct ctl_options, force),
		.commands = BIT(CTL_BLOCK),
		.help = "block the default gateway, or all addresses, if the list says so; --apply: also input without an entry",
	},
	{
		.name = "force",
		OPTABLE_FLAG(struct ctl_options, force),
		.commands = BIT(CTL_UNBLOCK) | BIT(CTL_ALLOW),
		.help = "block the default gateway, or all addresses, if the rest of the list says so",
	},
	{
		.name = "no-safety",
		OPTABLE_FLAG(struct ctl_options, no_safety),
		.commands = BIT(CTL_BLOCK) | BIT(CTL_UNBLOCK) | BIT(CTL_ALLOW),
		.help = "block the peer of this ssh session too",
	},
	{
		.name = "for",
		.arg = "DURATION",
		OPTABLE_DURATION(struct ctl_options, for_ms),
		.flags = OPTABLE_POSITIVE,
		.commands = BIT(CTL_BLOCK) | BIT(CTL_ALLOW),
		.help = "the entries end after this time",
	},
	{
		.name = "confirm",
		.arg = "DURATION",
		OPTABLE_DURATION_IN(struct ctl_options, confirm_ms, 1000, 3600 * 1000),
		.flags = OPTABLE_POSITIVE,
		.commands = BIT(CTL_BLOCK),
		.help = "--apply: take the list back unless it is confirmed within this time",
	},
	{
		.name = "exit-over",
		.arg = "SIZE",
		OPTABLE_CUSTOM(option_set_exit_over),
		.commands = BIT(CTL_WATCH),
		.help = "end with status 3 when the connections have moved this many bytes; such as 1GiB",
	},
	{
		.name = "buffer",
		.arg = "SIZE",
		OPTABLE_SIZE(struct ctl_options, buffer, 64 * 1024, 256 * 1024 * 1024),
		.by_default = "4M",
		.commands = BIT(CTL_WATCH),
		.help = "size of the ring in which the kernel keeps events; a power of 2",
	},
	{
		.name = "write",
		.short_name = 'w',
		.arg = "FILE",
		OPTABLE_PATH(struct ctl_options, write),
		.commands = BIT(CTL_CAPTURE),
		.help = "write pcapng to this file; - is stdout",
	},
	{
		.name = "count",
		.short_name = 'c',
		.arg = "NUMBER",
		OPTABLE_NUMBER(struct ctl_options, count, 1, UINT32_MAX),
		.commands = BIT(CTL_CAPTURE),
		.help = "end after this number of packets",
	},
	{
		.name = "snap-length",
		.short_name = 's',
		.arg = "SIZE",
		OPTABLE_SIZE(struct ctl_options, snap_length, 1, PCAPNG_SNAP_MAX),
		.by_default = "256K",
		.commands = BIT(CTL_CAPTURE),
		.help = "bytes of each packet that are kept, from the IP header on",
	},
	{
		.name = "file-size",
		.short_name = 'C',
		.arg = "SIZE",
		OPTABLE_SIZE(struct ctl_options, file_size, 4096, 1U << 31),
		.commands = BIT(CTL_CAPTURE),
		.help = "begin another file when one has this size; FILE, FILE1, FILE2, ...",
	},
	{
		.name = "files",
		.short_name = 'W',
		.arg = "NUMBER",
		OPTABLE_NUMBER(struct ctl_options, n_files, 1, 100000),
		.commands = BIT(CTL_CAPTURE),
		.help = "keep this number of files, the newest ones; with --file-size",
	},
	{
		.name = "pin-dir",
		.short_name = 'p',
		.arg = "DIR",
		OPTABLE_PATH(struct ctl_options, pin_dir),
		.by_default = TPROXY_PIN_DIR,
		.commands = ALL_COMMANDS,
		.help = "where tproxy-load pinned",
	},
	{
		.name = "json",
		OPTABLE_FLAG(struct ctl_options, json),
		.commands = ALL_COMMANDS & ~(BIT(CTL_RUN) | BIT(CTL_CAPTURE)),
		.help = "print JSON",
	},
	OPTABLE_ROW_HELP,
	{
		.name = "version",
		.type = OPTABLE_TYPE_VERSION,
		.commands = BIT(CTL_NONE),
		.help = "print the version and the ABI version",
	},
};

static const struct optable table = {
	.program = "tproxyctl",
	.version = TPROXY_VERSION,
	.command = ~0U,
	.commands = ctl_command_names,
	.rows = rows,
	.n_rows = ARRAY_SIZE(rows),
};

void ctl_options_print_help(void)
{
	opthelp_print_options(&table);
}

void ctl_options_print_table(void)
{
	operand_print_verbs();
	opthelp_print_table(&table);
}

int ctl_options_parse(int argc, char **argv, const struct ctl_usage *usage,
		      struct ctl_options *ret_options)
{
	const char *name = ctl_command_names[usage->command];
	struct optable of_command = table;
	struct ctl_options o = { .of_command = usage->command };
	struct optparse_given given;
	char synopsis[512];
	int r;

	snprintf(synopsis, sizeof(synopsis), "tproxyctl %s %s\n", name, usage->synopsis);
	of_command.usage = synopsis;
	of_command.about = usage->about;
	of_command.command = BIT(usage->command);
	of_command.command_name = name;
	if (usage->command == CTL_EXPLAIN)
		of_command.add_operand = operand_add_destination;
	if (usage->command == CTL_RULES)
		of_command.add_operand = operand_add_rules;
	if (block_options_are_of(usage->command))
		of_command.add_operand = block_options_add_operand;
	if (usage->command == CTL_RUN) {
		of_command.add_operand = operand_add_word;
		of_command.operands_last = true;
	}
	r = optparse_read(&of_command, argc, argv, &o, &given);
	if (r == 0) {
		o.has_uid = optparse_has(&of_command, given.on_command_line, "uid");
		o.has_gid = optparse_has(&of_command, given.on_command_line, "gid");
		o.has_command = optparse_has(&of_command, given.on_command_line, "command");
		if (block_options_are_of(usage->command))
			o.has_comment = optparse_has(&of_command, given.on_command_line, "comment");
		o.argv = argv + argc - o.n_words;
		r = option_checks(&of_command, &o);
	}
	if (r == 0)
		*ret_options = o;
	else
		free(o.operands);
	return r;
}
