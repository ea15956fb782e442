// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * tproxyctl run --write-rules: see learned.h. There is one line for each destination and port. If
 * there are more lines than a rule file may have rules, the destinations of a port share lines.
 */
#include "learned.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "escape.h"
#include "host/address.h"
#include "util.h"

/* Limit of lines. Each takes a row and a set; the user can still add some rules. */
#define LINES_MAX 240
/* Addresses of a shared line. */
#define SHARED_MAX 64

static struct learned_place *find_place(struct learned *learned, const struct tproxy_endpoint *dst)
{
	struct learned_place *places;
	size_t i;

	for (i = 0; i < learned->n; i++) {
		if (memcmp(&learned->places[i].dst, dst, sizeof(*dst)) == 0)
			return &learned->places[i];
	}
	places = reallocarray(learned->places, learned->n + 1, sizeof(*places));
	if (!places) {
		learned->no_memory = true;
		return NULL;
	}
	learned->places = places;
	places[learned->n] = (struct learned_place){ .dst = *dst };
	return &places[learned->n++];
}

void learned_add(struct learned *learned, const struct tproxy_observed *conn)
{
	struct learned_place *place = find_place(learned, &conn->dst);
	char command[TPROXY_COMM_LEN + 1];
	size_t i;

	if (!place)
		return;
	place->n++;
	snprintf(command, sizeof(command), "%.*s", (int)sizeof(conn->comm), conn->comm);
	for (i = 0; i < place->n_commands; i++) {
		if (strcmp(place->commands[i], command) == 0)
			return;
	}
	if (i < LEARNED_COMMANDS_MAX)
		strcpy(place->commands[place->n_commands++], command);
}

void learned_finish(struct learned *learned)
{
	free(learned->places);
	*learned = (struct learned){};
}

/* By port, then by address. */
static int compare_places(const void *left, const void *right)
{
	const struct learned_place *a = left, *b = right;

	if (a->dst.port != b->dst.port)
		return a->dst.port < b->dst.port ? -1 : 1;
	return memcmp(a->dst.addr, b->dst.addr, sizeof(a->dst.addr));
}

static void print_escaped(FILE *f, const char *text)
{
	size_t len = strlen(text);
	char *shown = malloc(ESCAPE_LEN(len));

	if (shown)
		fputs(escape_text(text, len, shown, ESCAPE_LEN(len)), f);
	free(shown);
}

/* Prints the rule for n places with the same port. */
static void print_rule(FILE *f, const struct learned_place *places, size_t n)
{
	char address[ADDRESS_LEN];
	uint64_t connections = 0;
	size_t i;

	for (i = 0; i < n; i++) {
		fprintf(f, "%s%s", i ? ", " : "direct to ",
			address_format(&places[i].dst, address));
		connections += places[i].n;
	}
	fprintf(f, " port %u  # ", places->dst.port);
	for (i = 0; i < places->n_commands; i++) {
		fputs(i ? ", " : "", f);
		print_escaped(f, places->commands[i]);
	}
	fprintf(f, "%s: %" PRIu64 " connection%s\n",
		n > 1 || places->n_commands == LEARNED_COMMANDS_MAX ? ", ..." : "", connections,
		connections == 1 ? "" : "s");
}

/* Returns the number of lines; prints them if f is not NULL. most: places in one line. */
static size_t print_rules(FILE *f, const struct learned *learned, size_t most)
{
	size_t i, n, lines = 0;

	for (i = 0; i < learned->n; i += n, lines++) {
		for (n = 1; n < most && i + n < learned->n &&
			    learned->places[i + n].dst.port == learned->places[i].dst.port;)
			n++;
		if (f)
			print_rule(f, &learned->places[i], n);
	}
	return lines;
}

/* Returns the limit of places in one line. */
static size_t places_in_a_line(const struct learned *learned)
{
	return learned->n <= LINES_MAX ? 1 : SHARED_MAX;
}

bool learned_sort(struct learned *learned)
{
	if (learned->n)
		qsort(learned->places, learned->n, sizeof(*learned->places), compare_places);
	return print_rules(NULL, learned, places_in_a_line(learned)) <= LINES_MAX;
}

void learned_print(FILE *f, const struct learned *learned, char *const argv[])
{
	/* First, so that a file that ends too early refuses what it lacks. */
	fputs("default refuse\n", f);
	fputs("# written by tproxyctl run --write-rules for:", f);
	for (; *argv; argv++) {
		fputc(' ', f);
		print_escaped(f, *argv);
	}
	fputc('\n', f);
	print_rules(f, learned, places_in_a_line(learned));
}
