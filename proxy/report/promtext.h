/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Parts of the text format of Prometheus. */
#ifndef TPROXY_PROMTEXT_H
#define TPROXY_PROMTEXT_H

#include <stdio.h>

/* Writes the lines that precede the values of a metric; @type is counter, gauge or histogram. */
void promtext_head(FILE *out, const char *name, const char *type, const char *help);

/* Writes the value of a label: a backslash before each backslash and quote, \n for a newline. */
void promtext_label(FILE *out, const char *text);

#endif
