/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Options of tproxy-relay, from its command line and its configuration file. */
#ifndef TPROXY_RELAY_OPTIONS_H
#define TPROXY_RELAY_OPTIONS_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>

#include "admin/address.h"
#include "parse.h"
#include "report/connlog.h"
#include "tproxy_abi.h"
#include "upstream/upstream.h"

struct upstream_reader;

#define OPTIONS_WORKERS_MAX 64

/* Where the value of an option came from last. */
enum options_source {
	OPTIONS_BY_DEFAULT,
	OPTIONS_FROM_FILE,
	OPTIONS_FROM_COMMAND_LINE,
};

/* Defaults are in options.c. */
struct options {
	char pin_dir[PATH_MAX];
	union sockaddr_any listen[_TPROXY_FAMILY_MAX];
	/* Not by default: --listen was given, and binding it must succeed. */
	enum options_source listen_given[_TPROXY_FAMILY_MAX];
	uint32_t workers;
	bool workers_given;
	uint32_t listeners;	  /* per worker and family; 0: see options_listeners() */
	uint32_t backlog;	  /* of each listener */
	uint32_t busy_poll_us;	  /* limit of spinning before a sleep; 0: never spin */
	uint32_t buffer_size;	  /* bytes, for data that is copied */
	uint32_t pipe_size;	  /* bytes, of each pipe for bulk; 0: no pipes */
	uint64_t keepalive_ms;	  /* whole seconds; 0 means never, as for all durations */
	uint32_t max_connections; /* 0: as many as descriptors allow */
	uint32_t max_per_cgroup;  /* 0: no limit */
	uint64_t connect_timeout_ms;
	uint64_t idle_timeout_ms;
	uint64_t half_closed_timeout_ms;
	uint64_t drain_timeout_ms;
	uint64_t error_memory_ms;
	enum connlog_format connection_log; /* default: NONE; TEXT with verbose */
	struct admin_address admin;	    /* see admin_address_is_set() */
	struct upstreams_conf upstreams;    /* owned, see options_finish(); without passwords */
	struct upstream_reader *reader;	    /* of options_parse(); NULL afterwards */
	bool drain_in_background;
	bool honest_connect;	/* connect() of clients waits for the destination, by default */
	bool pass_mark;		/* copy SO_MARK of the client's socket to the server's */
	bool check;		/* check the options and exit */
	char config[PATH_MAX];	/* name of the configuration file, or empty */
	bool config_has_others; /* the file has sections for other programs */
	bool verbose;
};

/* Returns the number of listeners per worker for this family. All workers together have at most
 * TPROXY_PORTS_MAX. */
uint32_t options_listeners(const struct options *o, enum tproxy_family family);

/* Returns the name of an option that differs and cannot change while the relay runs, or NULL. */
const char *options_changed(const struct options *before, const struct options *after);

/*
 * Reads the command line and the file of --config. It opens no other file: passwords are read by
 * upstream_config_read_secrets(). Returns 0 with *ret_options set, which options_finish() frees, 1
 * if --help,
 * --version or --print-options was answered (exit status 0), or -EINVAL, logged (exit status 2).
 */
int options_parse(int argc, char **argv, struct options *ret_options);
/* Frees what the options own. */
void options_finish(struct options *options);

#endif
