/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The command line of tproxy-relay. */
#ifndef TPROXY_RELAY_OPTIONS_H
#define TPROXY_RELAY_OPTIONS_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>

#include "connlog.h"
#include "parse.h"
#include "tproxy_abi.h"

#define OPTIONS_WORKERS_MAX 64

/* Defaults are in options.c. */
struct options {
	char pin_dir[PATH_MAX];
	union sockaddr_any listen[_TPROXY_FAMILY_MAX];
	bool listen_given[_TPROXY_FAMILY_MAX]; /* not the default: must work */
	uint32_t workers;
	bool workers_given;
	uint32_t listeners;	  /* of each worker, for each family; 0: see options_listeners() */
	uint32_t backlog;	  /* of each listener */
	uint32_t busy_poll_us;	  /* at most; 0: never */
	uint32_t buffer_size;	  /* bytes, of what is copied */
	uint32_t pipe_size;	  /* bytes, of pipes for bulk; 0: none */
	uint64_t keepalive_ms;	  /* whole seconds; 0, as of all durations: never */
	uint32_t max_connections; /* 0: as many as descriptors allow */
	uint32_t max_per_cgroup;  /* 0: no such limit */
	uint64_t connect_timeout_ms;
	uint64_t idle_timeout_ms;
	uint64_t half_closed_timeout_ms;
	uint64_t drain_timeout_ms;
	uint64_t error_memory_ms;
	enum connlog_format connection_log; /* TEXT by default with verbose */
	bool connection_log_given;
	bool drain_in_background;
	bool pass_mark;		/* SO_MARK of the client's socket, to the server's */
	bool check;		/* whether all this is good, and no more */
	char config[PATH_MAX];	/* the file's name, or empty */
	bool config_has_others; /* sections of other programs */
	bool verbose;
};

/* How many listeners each worker has for this family. Those of all are TPROXY_PORTS_MAX at most. */
uint32_t options_listeners(const struct options *o, enum tproxy_family family);

/*
 * 0: *ret_options is set. 1: --help or --version was answered, exit 0. -EINVAL: the line that says
 * what is wrong has been logged, exit 2.
 */
int options_parse(int argc, char **argv, struct options *ret_options);

#endif
