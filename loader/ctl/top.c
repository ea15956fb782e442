// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * tproxyctl top: live connections with their rates, as a screen, as one table (--once) or as JSON.
 * The screen is in top_screen.c.
 */
#include <errno.h>
#include <inttypes.h>
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "commands.h"
#include "config.h"
#include "host/json.h"
#include "log.h"
#include "options.h"
#include "state/maps.h"
#include "top_screen.h"
#include "top_source.h"
#include "top_state.h"
#include "util.h"

static const struct ctl_usage usage = {
	.command = CTL_TOP,
	.synopsis = "[--by WHAT] [--sort COLUMN] [-d DELAY] [--once] [--json] [-p DIR] "
		    "[FILTER]...",
	.about =
		"Shows the live connections with their rates, by connection, program, destination,\n"
		"cgroup or user; or the packets and bytes of each cgroup, with --by traffic. On the\n"
		"screen, h lists the keys. With --once prints one table after one interval, with\n"
		"--json one object for each interval.\n" FILTER_ABOUT,
};

static void wait_ms(uint64_t ms)
{
	struct timespec left = { .tv_sec = (time_t)(ms / 1000),
				 .tv_nsec = (long)(ms % 1000) * 1000000 };

	while (nanosleep(&left, &left) < 0 && errno == EINTR)
		;
}

/* --- the table of --once */

static int print_table(struct top *top)
{
	const struct top_line *lines;
	struct top_line sum;
	char row[TOP_ROW_LEN];
	size_t n, i;

	if (top_model_view(top->model, &top->view, &lines, &n, &sum) < 0)
		return -ENOMEM;
	top_table_measure(&top->table, lines, n);
	printf("%s\n", top_table_sum(&top->table, &sum, row));
	if (*top->note)
		printf("%s\n", top->note);
	printf("\n%s\n", top_table_head(&top->table, row));
	for (i = 0; i < n; i++)
		printf("%s\n", top_table_row(&top->table, &lines[i], row));
	return 0;
}

/* --- JSON */

static void add_text(struct json_object *to, const char *key, const struct top *top,
		     const struct conn_row *conn, enum top_column column)
{
	char text[TOP_TEXT_LEN];

	json_add_string(to, key, top_line_text(&top->names, conn, column, text));
}

/* A column shows "-" if there is nothing, as with `tproxyctl connections`, whose JSON has null. */
static void add_text_or_null(struct json_object *to, const char *key, const struct top *top,
			     const struct conn_row *conn, enum top_column column)
{
	char text[TOP_TEXT_LEN];

	if (strcmp(top_line_text(&top->names, conn, column, text), "-") == 0)
		json_object_object_add(to, key, NULL);
	else
		add_text(to, key, top, conn, column);
}

static void add_user(struct json_object *to, const struct top *top, const struct conn_row *conn)
{
	json_add_number(to, "uid", conn->uid);
	add_text(to, "user", top, conn, TOP_USER);
}

static void add_cgroup(struct json_object *to, const struct top *top, const struct conn_row *conn)
{
	json_add_number(to, "cgroup_id", conn->cgroup_id);
	add_text(to, "cgroup", top, conn, TOP_CGROUP);
}

static void add_connection(struct json_object *to, const struct top *top,
			   const struct conn_row *conn)
{
	add_text(to, "id", top, conn, TOP_ID);
	json_add_number(to, "pid", conn->pid);
	add_text(to, "command", top, conn, TOP_COMMAND);
	add_user(to, top, conn);
	add_cgroup(to, top, conn);
	json_add_address(to, "source", conn->src.port ? &conn->src : NULL);
	json_add_address(to, "destination", &conn->dst);
	add_text(to, "verdict", top, conn, TOP_VERDICT);
	add_text_or_null(to, "rule", top, conn, TOP_RULE);
	if (*conn->upstream)
		add_text(to, "upstream", top, conn, TOP_VIA);
	add_text_or_null(to, "state", top, conn, TOP_STATE);
	json_add_number(to, "rtt_us", conn->rtt_us);
	json_add_number(to, "age_ms", conn->age_ms);
}

static void add_subject(struct json_object *to, const struct top *top, const struct conn_row *conn)
{
	switch (top->view.by) {
	case TOP_BY_PROGRAM:
		add_text(to, "command", top, conn, TOP_COMMAND);
		break;
	case TOP_BY_DESTINATION:
		json_add_address(to, "destination", &conn->dst);
		break;
	case TOP_BY_CGROUP:
	case TOP_BY_TRAFFIC:
		add_cgroup(to, top, conn);
		break;
	case TOP_BY_USER:
		add_user(to, top, conn);
		break;
	default:
		add_connection(to, top, conn);
	}
}

/* A source without counters has no members about bytes. */
static void add_numbers(struct json_object *to, const struct top *top, const struct top_line *line,
			bool counts)
{
	const struct top_amount *recent = &line->recent, *total = &line->total;
	const struct top_model *model = top->model;

	if (counts && top->view.by != TOP_BY_TRAFFIC) {
		json_add_number(to, "connections", line->connections);
		json_object_object_add(
			to, "new_per_s",
			json_object_new_double(top_model_per_second(model, line->opened)));
	}
	if (!top->table.has_bytes)
		return;
	json_add_number(to, "tx_per_s", (uint64_t)top_model_per_second(model, recent->tx));
	json_add_number(to, "rx_per_s", (uint64_t)top_model_per_second(model, recent->rx));
	json_add_number(to, "tx", total->tx);
	json_add_number(to, "rx", total->rx);
	if (top->view.by != TOP_BY_TRAFFIC)
		return;
	json_add_number(to, "tx_packets_per_s",
			(uint64_t)top_model_per_second(model, recent->tx_packets));
	json_add_number(to, "rx_packets_per_s",
			(uint64_t)top_model_per_second(model, recent->rx_packets));
	json_add_number(to, "tx_packets", total->tx_packets);
	json_add_number(to, "rx_packets", total->rx_packets);
}

static uint64_t real_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* Prints an object in one line, one member of "lines" at a time: all of them may be 100,000. */
static int print_json(struct top *top)
{
	_cleanup_(json_put) struct json_object *head = json_new_document();
	const int plain = JSON_C_TO_STRING_NOSLASHESCAPE | JSON_C_TO_STRING_PLAIN;
	const struct top_line *lines;
	struct top_line sum;
	const char *text;
	size_t n, i;

	if (top_model_view(top->model, &top->view, &lines, &n, &sum) < 0)
		return -ENOMEM;
	json_add_number(head, "time_ms", real_ms());
	json_add_number(head, "interval_ms", top_model_interval_ms(top->model));
	json_add_string(head, "by", top_by_names[top->view.by]);
	if (*top->note)
		json_add_string(head, "note", top->note);
	add_numbers(head, top, &sum, /* counts= */ true);
	text = json_object_to_json_string_ext(head, plain);
	/* The members of the head, without its closing bracket. */
	printf("%.*s,\"lines\":[", (int)strlen(text) - 1, text);
	for (i = 0; i < n; i++) {
		_cleanup_(json_put) struct json_object *object = json_object_new_object();

		add_subject(object, top, lines[i].conn);
		add_numbers(object, top, &lines[i], top->view.by != TOP_BY_CONNECTION);
		printf("%s%s", i ? "," : "", json_object_to_json_string_ext(object, plain));
	}
	printf("]}\n");
	return 0;
}

/* --- the command */

/* Prints one interval, or one after the other until stdout cannot be written or a sample fails. */
static int print_intervals(struct top *top, bool once, bool json)
{
	int r = top->sample(top);

	while (r == 0) {
		wait_ms(top->delay_ms);
		r = top->sample(top);
		if (r == 0)
			r = json ? print_json(top) : print_table(top);
		if (fflush(stdout) != 0) {
			log_answer_failed();
			break;
		}
		if (once)
			break;
	}
	if (r < 0)
		log_err("%s", *top->note ? top->note : strerror(-r));
	return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

/* Returns false, logged, if a screen is wanted and the terminal cannot show one. */
static bool has_screen(void)
{
	if (HAVE_NCURSES)
		return true;
	log_err("built without ncurses, which the screen needs; use --once or --json");
	return false;
}

static int show_screen(struct top *top)
{
#if HAVE_NCURSES
	return top_screen(top);
#else
	return EXIT_FAILURE;
#endif
}

static int run(const struct ctl_options *options)
{
	_cleanup_(top_source_finish) struct top_source source = {};
	struct top top = {};

	if (top_source_init(&source, options, &top) < 0) {
		log_err("%s", strerror(ENOMEM));
		return EXIT_FAILURE;
	}
	top.view.sort = options->sort;
	top.delay_ms = options->delay_ms;
	top.has_traffic = filter_is_of_cgroups(&options->filter);
	if (options->once || options->json)
		return print_intervals(&top, options->once, options->json);
	return show_screen(&top);
}

int ctl_top(int argc, char **argv)
{
	struct ctl_options options;
	int r;

	r = ctl_options_parse(argc, argv, &usage, &options);
	if (r)
		return r < 0 ? 2 : EXIT_SUCCESS;
	if (!options.once && !options.json && !has_screen())
		return EXIT_FAILURE;
	r = maps_check_loaded(options.pin_dir);
	if (r == 0)
		r = filter_prepare(&options.filter);
	r = r < 0 ? EXIT_FAILURE : run(&options);
	filter_finish(&options.filter);
	return r;
}
