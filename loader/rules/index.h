/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Makes the index of compiled rules, which bpf/ruleindex.bpf.h searches. */
#ifndef TPROXY_RULES_INDEX_H
#define TPROXY_RULES_INDEX_H

struct tproxy_rules;

/* Fills in conditions and index of the rules, from their rows. */
void index_build(struct tproxy_rules *rules);

#endif
