// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* See limit.h. The count is not ordered with other memory: it is only a number. */
#include "limit.h"

bool limit_reserve(struct session_limit *limit)
{
	if (atomic_fetch_add_explicit(&limit->sessions, 1, memory_order_relaxed) <
	    atomic_load_explicit(&limit->max, memory_order_relaxed))
		return true;
	limit_release(limit);
	return false;
}

void limit_release(struct session_limit *limit)
{
	atomic_fetch_sub_explicit(&limit->sessions, 1, memory_order_relaxed);
}
