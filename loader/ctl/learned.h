/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The rules that allow the connections that a command has made, and no others. */
#ifndef TPROXY_CTL_LEARNED_H
#define TPROXY_CTL_LEARNED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "tproxy_abi.h"

/* Limit of command names for each destination. */
#define LEARNED_COMMANDS_MAX 8

struct learned_place {
	struct tproxy_endpoint dst;
	uint64_t n; /* connections */
	char commands[LEARNED_COMMANDS_MAX][TPROXY_COMM_LEN + 1];
	size_t n_commands;
};

/* A zeroed struct is empty. */
struct learned {
	struct learned_place *places; /* owned */
	size_t n;
	bool no_memory; /* something is missing */
};

void learned_add(struct learned *learned, const struct tproxy_observed *conn);
void learned_finish(struct learned *learned);

/*
 * Sorts the destinations, for learned_print(). Returns false if there are more than one rule file
 * can list.
 */
bool learned_sort(struct learned *learned);
/* Prints the rules. argv is the command. */
void learned_print(FILE *f, const struct learned *learned, char *const argv[]);

#endif
