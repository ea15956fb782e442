/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The relay's metrics in the text format of Prometheus. Labels have few values, which the
 * configuration bounds: reasons, names of rules, numbers of workers, the cgroups of the load. No
 * label is a process, a command, an address or a port.
 */
#ifndef TPROXY_METRICS_H
#define TPROXY_METRICS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "conn_row.h"
#include "stats.h"
#include "verdicts.h"

struct counters;
struct packets;

#define METRICS_CONTENT_TYPE "text/plain; version=0.0.4; charset=utf-8"

struct metrics {
	const struct stats *const
		*workers;	       /* bulk workers after their partners, in the same order */
	uint32_t n_workers;	       /* without bulk workers: workers[] has twice as many */
	uint64_t sessions_max;	       /* limit of sessions */
	bool registered;	       /* this relay gets new connections */
	bool stuck;		       /* a worker does not answer */
	uint64_t lines_dropped;	       /* of the log */
	const struct counters *kernel; /* NULL: the maps cannot be read */
	const struct packets *packets; /* NULL: the maps cannot be read */
	struct verdicts verdicts;      /* valid unless kernel is NULL */
	double started_s;	       /* start of the process, Unix time */
	double cpu_s;		       /* CPU time of the process */
	uint64_t resident_bytes;
};

void metrics_write(FILE *out, const struct metrics *m);

/* Formats how rule i of counters::rules is shown: its name, its line or "default". Returns buf. */
#define METRICS_RULE_LEN CONN_ROW_RULE_LEN
char *metrics_rule_label(const struct counters *kernel, size_t i, char buf[METRICS_RULE_LEN]);
/* Returns the word of an action, enum tproxy_rule_action. */
const char *metrics_action_name(unsigned int action);

#endif
