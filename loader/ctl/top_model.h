/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The table of `tproxyctl top`: a pure model of samples of the live connections. It reads nothing
 * from the system; names come from the caller's functions.
 *
 * A sample is the set of connections that are alive at one time. Connections of two samples with
 * the same id are the same connection, so the difference of their byte counters divided by the time
 * is the rate. A connection that is new in a sample counts with all its bytes if it is younger than
 * the interval, and otherwise from this sample on. What a connection has transferred stays in the
 * totals of its program, destination, cgroup and user when it has ended, as far as the samples have
 * seen it. A connection that begins and ends between two samples is not seen.
 *
 * A view is a sorted list of lines: one for each connection, or one for each group of connections
 * that have the program, the destination, the cgroup or the user in common.
 *
 * The view by traffic has a model of its own. Its samples are the traffic of cgroups in place of
 * connections, see top_model_add_traffic().
 */
#ifndef TPROXY_CTL_TOP_MODEL_H
#define TPROXY_CTL_TOP_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "conn_row.h"
#include "top_line.h"

/* Ended connections are summed up by program, destination, cgroup and user, in as many entries. */
#define TOP_ENDED_MAX 16384

enum top_by {
	TOP_BY_CONNECTION,
	TOP_BY_PROGRAM,
	TOP_BY_DESTINATION,
	TOP_BY_CGROUP,
	TOP_BY_USER,
	TOP_BY_TRAFFIC,
	_TOP_BY_MAX,
};

struct top_view {
	enum top_by by;
	enum top_column sort;
	bool reversed;	/* numbers: smallest first; texts: Z first */
	bool busy_only; /* only lines with traffic or a new connection in the last interval */
	char text[64];	/* lower case; only connections with this text in a column; empty: all */
	char user[64];	/* name or number of a user; empty: all */
};

struct top_model;

/* @names outlives the model. Returns NULL without memory. */
struct top_model *top_model_create(const struct top_names *names);
void top_model_destroy(struct top_model *model);
void top_model_destroyp(struct top_model **model);

/*
 * A sample is given by one call of top_model_begin(), one of top_model_add() for each connection,
 * and top_model_end(). @now_ms is a monotonic clock. top_model_add() and top_model_end() return 0
 * or -ENOMEM; then begin again, the last complete sample stays.
 */
void top_model_begin(struct top_model *model);
int top_model_add(struct top_model *model, const struct conn_row *conn);
/*
 * Adds what the sockets of a cgroup have transferred to the line of @line_id: the cgroup itself, or
 * an ancestor that is @steps above it. The sum of a view counts it once, for the cgroup. Returns as
 * top_model_add().
 */
int top_model_add_traffic(struct top_model *model, uint64_t cgroup_id, uint64_t line_id,
			  unsigned int steps, const struct top_amount *amount);
int top_model_end(struct top_model *model, uint64_t now_ms);

/* Milliseconds between the last two samples; 0: there are no rates yet. */
uint64_t top_model_interval_ms(const struct top_model *model);

/*
 * Makes the lines of a view, and the sum of all connections that the view does not filter out. The
 * lines belong to the model; they are valid until the next view or sample. Returns 0 or -ENOMEM.
 */
int top_model_view(struct top_model *model, const struct top_view *view,
		   const struct top_line **ret_lines, size_t *ret_n, struct top_line *ret_sum);

/* Returns what there was in the last interval, per second; 0 if there are no rates yet. */
double top_model_per_second(const struct top_model *model, uint64_t count);

#endif
