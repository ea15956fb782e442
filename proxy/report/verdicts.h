/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Sums of the kernel half's counters by what became of the connections. A reason of the fail policy
 * (no relay, say) does not tell whether the connection went directly or was refused; the number of
 * those refused is a counter of its own (TPROXY_STAT_REFUSED).
 */
#ifndef TPROXY_VERDICTS_H
#define TPROXY_VERDICTS_H

#include <stdint.h>

#include "conn_row.h"
#include "tproxy_abi.h"

/* Of a counter, besides those of enum conn_verdict. */
enum verdict_of_counter {
	VERDICT_BY_POLICY = _CONN_VERDICT_MAX, /* direct or refused */
	VERDICT_NONE,			       /* counts no connect() */
};

/* Sums that never decrease while the same programs are loaded, in spite of counts under way. */
struct verdicts {
	uint64_t loaded_ns; /* counters::loaded_ns */
	uint64_t sums[_CONN_VERDICT_MAX];
};

/*
 * Returns what became of the connections that this counter counts: enum conn_verdict or enum
 * verdict_of_counter.
 */
unsigned int verdict_of(unsigned int stat);

/* Computes the sums. v: all zero at first, and then from the last call. */
void verdicts_update(struct verdicts *v, uint64_t loaded_ns,
		     const uint64_t stats[_TPROXY_STAT_MAX]);

#endif
