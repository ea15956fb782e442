/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The lines of the connection log for observed connections, which go direct: the kernel half
 * reports their end. And for those that the block list refused.
 */
#ifndef TPROXY_OBSERVED_H
#define TPROXY_OBSERVED_H

#include <stdbool.h>
#include <stdint.h>

struct line;
struct timespec;
struct tproxy_event;
struct tproxy_rule_text;

/*
 * Writes the line for people to buf. rule may be NULL: unknown. now_ns is the time of
 * monotonic_kernel_ns(): a line that is logged late gives the delay. Returns buf.
 */
#define OBSERVED_TEXT_LEN 512
char *observed_text(const struct tproxy_event *event, const struct tproxy_rule_text *rule,
		    uint64_t now_ns, char buf[OBSERVED_TEXT_LEN]);
/*
 * Writes the line for programs. ended is the time of the end by CLOCK_REALTIME. Returns false if it
 * does not fit.
 */
bool observed_json(const struct tproxy_event *event, const struct tproxy_rule_text *rule,
		   const struct timespec *ended, struct line *line);

/* Prints the line of a connection in the format of the connection log. */
void observed_print(const struct tproxy_event *event, const struct tproxy_rule_text *rule);

#endif
