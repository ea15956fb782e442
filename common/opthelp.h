/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Prints a table of options: as the text of --help, or for the scripts that make completions. */
#ifndef TPROXY_OPTHELP_H
#define TPROXY_OPTHELP_H

struct optable;

/* Prints the usage, and each option that the table's command takes with its range and default. */
void opthelp_print(const struct optable *table);

/* Prints the options as opthelp_print() does, without the text around them. */
void opthelp_print_options(const struct optable *table);

/*
 * Prints one line per row with these fields, separated by tabs: name, short name, what --help calls
 * the value, type, flags, range, default, commands that take it, help text. A field may be empty.
 */
void opthelp_print_table(const struct optable *table);

#endif
