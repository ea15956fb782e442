/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What the command line of a command says. options.c fills it in. */
#ifndef TPROXY_CTL_SETTINGS_H
#define TPROXY_CTL_SETTINGS_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "filter.h"
#include "parse.h"
#include "top_model.h"
#include "tproxy_abi.h"
#include "upstream_id.h"

/* A new command is also in ctl_command_names, in commands[] of main.c and in the man page. */
enum ctl_command {
	CTL_NONE, /* tproxyctl itself: --help and --version */
	CTL_STATUS,
	CTL_CONNECTIONS,
	CTL_DOCTOR,
	CTL_REGISTER,
	CTL_EXPLAIN,
	CTL_RULES,
	CTL_RUN,
	CTL_TOP,
	CTL_WATCH,
	CTL_CAPTURE,
	CTL_BLOCK,
	CTL_UNBLOCK,
	CTL_ALLOW,
	CTL_UPSTREAMS,
	_CTL_COMMAND_MAX,
};

/* Commands that show connections, and take the options of filter.h: a bit for each. */
#define CTL_FILTERED (1U << CTL_CONNECTIONS | 1U << CTL_TOP | 1U << CTL_WATCH | 1U << CTL_CAPTURE)

/* Destinations of one `explain`. */
#define CTL_DESTINATIONS_MAX 64

/* What `rules` does: its first operand. */
enum ctl_rules_verb {
	CTL_RULES_NONE,
	CTL_RULES_CHECK,
	CTL_RULES_LOAD,
	CTL_RULES_UNLOAD,
	CTL_RULES_CONFIRM,
	CTL_RULES_REVERT,
	CTL_RULES_SHOW,
	CTL_RULES_STATS,
	_CTL_RULES_MAX,
};

/* What `block` does. */
enum ctl_block_action {
	CTL_BLOCK_ADD,
	CTL_BLOCK_LIST,
	CTL_BLOCK_STATS,
	CTL_BLOCK_APPLY,
	CTL_BLOCK_CLEAR,
	CTL_BLOCK_KEEP,
	CTL_BLOCK_REVERT,
	_CTL_BLOCK_MAX,
};

struct ctl_options {
	enum ctl_command of_command;
	char pin_dir[PATH_MAX];
	char cgroup[PATH_MAX]; /* --cgroup, or empty */
	bool json;
	bool strict; /* exit status 1 for warnings too */
	pid_t pid;
	uint16_t ports[TPROXY_PORTS_MAX];
	size_t n_ports; /* 0: all ports */
	bool remove;
	uint32_t uid, gid;
	bool has_uid, has_gid;
	bool has_command;
	char command[TPROXY_COMM_LEN]; /* --command */
	union sockaddr_any destinations[CTL_DESTINATIONS_MAX];
	size_t n_destinations;
	bool batch; /* more destinations come on stdin */
	enum ctl_rules_verb verb;
	char file[PATH_MAX]; /* of `rules check` and `rules load`, or empty */
	uint64_t confirm_ms; /* --confirm; 0: not given */
	bool no_resolve;
	bool verbose;
	/* of `run`; the paths may be empty */
	char rules[PATH_MAX];
	char write_rules[PATH_MAX];
	char via[UPSTREAM_NAME_LEN]; /* or empty */
	bool observe;
	bool fail_closed;
	/* of commands that show connections; the caller calls filter_finish() */
	struct conn_filter filter;
	/* of `top` */
	enum top_by by;
	enum top_column sort;
	uint64_t delay_ms;
	bool once;
	char admin[PATH_MAX]; /* of `upstreams` */
	/* of `watch`, and the time that an entry of `block` and `allow` lasts */
	bool inbound;
	uint64_t for_ms;    /* --for; 0: no limit */
	uint64_t exit_over; /* --exit-over, bytes; 0: no limit */
	uint32_t buffer;    /* --buffer */
	/* of `capture` */
	char write[PATH_MAX]; /* or empty */
	uint32_t count;	      /* --count; 0: no limit */
	uint32_t snap_length; /* --snap-length */
	uint32_t file_size;   /* --file-size, bytes; 0: no limit */
	uint32_t n_files;     /* --files; 0: no limit */
	/* of `block`, `unblock` and `allow` */
	enum ctl_block_action block_action;
	const char **operands; /* CIDRs, or files with --apply; the caller frees the array */
	size_t n_operands;
	bool has_comment;
	char comment[sizeof(((struct tproxy_block_text *)NULL)->text)];
	uint32_t error; /* --error; 0: not given */
	bool watch, force, no_safety;
	size_t n_words; /* of the command that `run` runs */
	char **argv;	/* these words, then NULL: the end of the command line */
};

#endif
