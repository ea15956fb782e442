/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The command line of tproxy-relay. */
#ifndef TPROXY_RELAY_OPTIONS_H
#define TPROXY_RELAY_OPTIONS_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>

#define OPTIONS_WORKERS_MAX 64

/* Strings are argv's own. Defaults are in options.c. */
struct options {
	const char *pin_dir;
	struct sockaddr_in listen;
	uint32_t workers;
	uint32_t max_connections; /* 0: as many as descriptors allow */
	uint64_t connect_timeout_ms;
	uint64_t idle_timeout_ms;
	uint64_t half_closed_timeout_ms;
	uint64_t drain_timeout_ms;
	bool verbose;
};

/*
 * 0: *ret_options is set. 1: --help or --version was answered, exit 0. -EINVAL: the line that says
 * what is wrong has been logged, exit 2.
 */
int options_parse(int argc, char **argv, struct options *ret_options);

#endif
