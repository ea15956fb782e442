// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * See top_model.h. The model has three lists of entries: the last complete sample, the one that is
 * being given, and what has ended. top_model_end() compares the two samples, both sorted by id, as
 * a merge does: an entry in both has grown, one that is only in the new sample has opened, and one
 * that is only in the old sample has ended. Ended ones that no view can tell apart are one entry,
 * so their number has a limit. Then the two lists change places.
 *
 * top_model_view() makes a line of each entry that the filter lets pass, sums up those of a group,
 * and sorts them by a column (top_line.h). The lines point to the entries: they are valid until the
 * lists change.
 */
#include "top_model.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "util.h"

/* A connection of a sample, or the sum of ended ones. */
struct entry {
	struct conn_row conn;
	struct top_amount total, recent;
	bool alive, opened;
	bool inherited; /* traffic of a cgroup below conn.cgroup_id */
};

struct entries {
	struct entry *list;
	size_t n, size;
};

struct top_model {
	const struct top_names *names;
	struct entries live; /* the last complete sample, sorted by id */
	struct entries next; /* the sample that is being given */
	struct entries ended;
	bool sampled;
	uint64_t sampled_ms, interval_ms;
	struct top_line *lines;
};

struct top_model *top_model_create(const struct top_names *names)
{
	struct top_model *model = calloc(1, sizeof(*model));

	if (model)
		model->names = names;
	return model;
}

void top_model_destroy(struct top_model *model)
{
	if (!model)
		return;
	free(model->live.list);
	free(model->next.list);
	free(model->ended.list);
	free(model->lines);
	free(model);
}

void top_model_destroyp(struct top_model **model)
{
	top_model_destroy(*model);
}

static int reserve(struct entries *entries, size_t n)
{
	size_t size = entries->size ? entries->size : 256;
	struct entry *list;

	while (size < n)
		size *= 2;
	if (size == entries->size)
		return 0;
	list = reallocarray(entries->list, size, sizeof(*list));
	if (!list)
		return -ENOMEM;
	entries->list = list;
	entries->size = size;
	return 0;
}

static int compare_groups(const struct conn_row *a, const struct conn_row *b, enum top_by by)
{
	switch (by) {
	case TOP_BY_PROGRAM:
		return strncmp(a->comm, b->comm, sizeof(a->comm));
	case TOP_BY_DESTINATION:
		return top_compare_endpoints(&a->dst, &b->dst);
	case TOP_BY_CGROUP:
	case TOP_BY_TRAFFIC:
		return top_compare_numbers(a->cgroup_id, b->cgroup_id);
	case TOP_BY_USER:
		return top_compare_numbers(a->uid, b->uid);
	default:
		return top_compare_numbers(a->id, b->id);
	}
}

/* qsort(3) may not be given NULL, which is the list before its first entry. */
static void sort_entries(struct entries *entries, int (*compare)(const void *, const void *))
{
	if (entries->n)
		qsort(entries->list, entries->n, sizeof(*entries->list), compare);
}

static int by_id(const void *a, const void *b)
{
	const struct entry *x = a, *y = b;

	return top_compare_numbers(x->conn.id, y->conn.id);
}

/* Ended connections that have everything in common by which a view groups are one entry. */
static int by_all_groups(const void *a, const void *b)
{
	const struct entry *x = a, *y = b;
	enum top_by by;
	int r = x->inherited - y->inherited;

	for (by = TOP_BY_PROGRAM; by < _TOP_BY_MAX && r == 0; by++)
		r = compare_groups(&x->conn, &y->conn, by);
	return r;
}

static int by_bytes_downwards(const void *a, const void *b)
{
	const struct entry *x = a, *y = b;

	return top_compare_numbers(y->total.tx + y->total.rx, x->total.tx + x->total.rx);
}

void top_model_begin(struct top_model *model)
{
	model->next.n = 0;
}

static int add_entry(struct top_model *model, const struct entry *entry)
{
	int r = reserve(&model->next, model->next.n + 1);

	if (r < 0)
		return r;
	model->next.list[model->next.n++] = *entry;
	return 0;
}

int top_model_add(struct top_model *model, const struct conn_row *conn)
{
	const struct entry entry = {
		.conn = *conn,
		.total = { .tx = conn->tx_bytes, .rx = conn->rx_bytes },
		.alive = true,
	};

	return add_entry(model, &entry);
}

/* Ids of cgroups are far below 2^56. */
int top_model_add_traffic(struct top_model *model, uint64_t cgroup_id, uint64_t line_id,
			  unsigned int steps, const struct top_amount *amount)
{
	const struct entry entry = {
		.conn = { .id = (uint64_t)steps << 56 | cgroup_id, .cgroup_id = line_id },
		.total = *amount,
		.alive = true,
		.inherited = steps > 0,
	};

	return add_entry(model, &entry);
}

/* Sorts the sample by id. An id that was given twice stays once. */
static void sort_sample(struct entries *sample)
{
	size_t i, n = 0;

	sort_entries(sample, by_id);
	for (i = 0; i < sample->n; i++) {
		if (n == 0 || sample->list[n - 1].conn.id != sample->list[i].conn.id)
			sample->list[n++] = sample->list[i];
	}
	sample->n = n;
}

/* A counter that goes back is that of another source, which has no counters: nothing is new. */
static uint64_t grown(uint64_t now, uint64_t before)
{
	return now > before ? now - before : 0;
}

static void measure_new(struct entry *entry, uint64_t interval_ms)
{
	entry->opened = entry->conn.age_ms <= interval_ms;
	if (entry->opened)
		entry->recent = entry->total;
}

static struct top_amount grown_by(const struct top_amount *now, const struct top_amount *before)
{
	return (struct top_amount){
		.tx = grown(now->tx, before->tx),
		.rx = grown(now->rx, before->rx),
		.tx_packets = grown(now->tx_packets, before->tx_packets),
		.rx_packets = grown(now->rx_packets, before->rx_packets),
	};
}

static void add_amount(struct top_amount *to, const struct top_amount *amount)
{
	to->tx += amount->tx;
	to->rx += amount->rx;
	to->tx_packets += amount->tx_packets;
	to->rx_packets += amount->rx_packets;
}

/*
 * Compares the sample with the one before. Appends the connections that have ended to the ended
 * ones, for which there is room.
 */
static void compare_samples(struct top_model *model, uint64_t interval_ms)
{
	const struct entry *old = model->live.list, *end = old + model->live.n;
	size_t i;

	for (i = 0; i < model->next.n; i++) {
		struct entry *entry = &model->next.list[i];

		for (; old < end && old->conn.id < entry->conn.id; old++)
			model->ended.list[model->ended.n++] = *old;
		if (old < end && old->conn.id == entry->conn.id) {
			entry->recent = grown_by(&entry->total, &old->total);
			old++;
		} else {
			measure_new(entry, interval_ms);
		}
	}
	for (; old < end; old++)
		model->ended.list[model->ended.n++] = *old;
}

/* Sums up what has ended. If there are too many entries, those with the fewest bytes go. */
static void sum_up_ended(struct entries *ended)
{
	size_t i, n = 0;

	sort_entries(ended, by_all_groups);
	for (i = 0; i < ended->n; i++) {
		struct entry *last = n ? &ended->list[n - 1] : NULL, *entry = &ended->list[i];

		entry->alive = entry->opened = false;
		entry->recent = (struct top_amount){};
		if (last && by_all_groups(last, entry) == 0)
			add_amount(&last->total, &entry->total);
		else
			ended->list[n++] = *entry;
	}
	ended->n = n;
	if (n <= TOP_ENDED_MAX)
		return;
	sort_entries(ended, by_bytes_downwards);
	ended->n = TOP_ENDED_MAX;
}

int top_model_end(struct top_model *model, uint64_t now_ms)
{
	uint64_t interval_ms = now_ms > model->sampled_ms ? now_ms - model->sampled_ms : 1;
	struct entries swap;

	if (reserve(&model->ended, model->ended.n + model->live.n) < 0)
		return -ENOMEM;
	sort_sample(&model->next);
	if (model->sampled) {
		compare_samples(model, interval_ms);
		sum_up_ended(&model->ended);
		model->interval_ms = interval_ms;
	}
	swap = model->live;
	model->live = model->next;
	model->next = swap;
	model->sampled = true;
	model->sampled_ms = now_ms;
	return 0;
}

uint64_t top_model_interval_ms(const struct top_model *model)
{
	return model->interval_ms;
}

double top_model_per_second(const struct top_model *model, uint64_t count)
{
	return model->interval_ms ? (double)count * 1000 / (double)model->interval_ms : 0;
}

static bool matches(const struct top_model *model, const struct top_view *view,
		    const struct conn_row *conn)
{
	/* The first one is all that the view by traffic has. */
	static const enum top_column searched[] = { TOP_CGROUP, TOP_COMMAND, TOP_DESTINATION,
						    TOP_USER,	TOP_PID,     TOP_VERDICT,
						    TOP_RULE,	TOP_VIA,     TOP_STATE,
						    TOP_SOURCE, TOP_ID };
	const size_t n = view->by == TOP_BY_TRAFFIC ? 1 : ARRAY_SIZE(searched);
	char buf[TOP_TEXT_LEN], number[16];
	size_t i;

	snprintf(number, sizeof(number), "%u", conn->uid);
	if (view->by != TOP_BY_TRAFFIC && *view->user && strcmp(view->user, number) != 0 &&
	    strcmp(view->user, model->names->user(model->names->data, conn->uid)) != 0)
		return false;
	if (!*view->text)
		return true;
	for (i = 0; i < n; i++) {
		if (strcasestr(top_line_text(model->names, conn, searched[i], buf), view->text))
			return true;
	}
	return false;
}

static void add_line(struct top_line *to, const struct top_line *line)
{
	to->connections += line->connections;
	to->opened += line->opened;
	add_amount(&to->total, &line->total);
	add_amount(&to->recent, &line->recent);
}

/* Appends a line for each entry that is not filtered out. Returns the number of lines. */
static size_t add_entries(struct top_model *model, const struct top_view *view,
			  const struct entries *entries, size_t n, struct top_line *sum)
{
	size_t i;

	for (i = 0; i < entries->n; i++) {
		const struct entry *entry = &entries->list[i];

		if (!matches(model, view, &entry->conn))
			continue;
		model->lines[n] = (struct top_line){
			.conn = &entry->conn,
			.connections = entry->alive,
			.opened = entry->opened,
			.total = entry->total,
			.recent = entry->recent,
		};
		if (!entry->inherited)
			add_line(sum, &model->lines[n]);
		if (entry->alive || view->by != TOP_BY_CONNECTION)
			n++;
	}
	return n;
}

static int by_group(const void *a, const void *b, void *view)
{
	const struct top_line *x = a, *y = b;

	return compare_groups(x->conn, y->conn, ((const struct top_view *)view)->by);
}

static size_t group_lines(struct top_line *lines, size_t n, const struct top_view *view)
{
	size_t i, groups = 0;

	qsort_r(lines, n, sizeof(*lines), by_group, (void *)view);
	for (i = 0; i < n; i++) {
		if (groups && by_group(&lines[groups - 1], &lines[i], (void *)view) == 0)
			add_line(&lines[groups - 1], &lines[i]);
		else
			lines[groups++] = lines[i];
	}
	return groups;
}

struct order {
	const struct top_view *view;
	const struct top_names *names;
};

/* Lines that are equal in the column keep their order, by total and then by group. */
static int by_column(const void *a, const void *b, void *data)
{
	const struct top_line *x = a, *y = b;
	const struct order *order = data;
	int r = top_line_compare(order->names, x, y, order->view->sort);

	if (order->view->reversed)
		r = -r;
	if (r == 0)
		r = top_compare_numbers(y->total.tx + y->total.rx, x->total.tx + x->total.rx);
	return r ? r : compare_groups(x->conn, y->conn, order->view->by);
}

static size_t keep_busy(struct top_line *lines, size_t n)
{
	size_t i, kept = 0;

	for (i = 0; i < n; i++) {
		if (lines[i].recent.tx || lines[i].recent.rx || lines[i].opened)
			lines[kept++] = lines[i];
	}
	return kept;
}

int top_model_view(struct top_model *model, const struct top_view *view,
		   const struct top_line **ret_lines, size_t *ret_n, struct top_line *ret_sum)
{
	struct order order = { .view = view, .names = model->names };
	struct top_line *lines, sum = {};
	size_t n;

	lines = reallocarray(model->lines, model->live.n + model->ended.n + 1, sizeof(*lines));
	if (!lines)
		return -ENOMEM;
	model->lines = lines;
	n = add_entries(model, view, &model->live, 0, &sum);
	n = add_entries(model, view, &model->ended, n, &sum);
	if (view->by != TOP_BY_CONNECTION)
		n = group_lines(lines, n, view);
	if (view->busy_only)
		n = keep_busy(lines, n);
	qsort_r(lines, n, sizeof(*lines), by_column, &order);
	*ret_lines = lines;
	*ret_n = n;
	*ret_sum = sum;
	return 0;
}
