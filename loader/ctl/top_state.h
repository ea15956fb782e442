/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What `tproxyctl top` has while it runs. */
#ifndef TPROXY_CTL_TOP_STATE_H
#define TPROXY_CTL_TOP_STATE_H

#include "top_model.h"
#include "top_table.h"

struct top {
	struct top_model *model; /* of the view, see top_source_select() */
	struct top_names names;
	struct top_table table;
	struct top_view view;
	uint64_t delay_ms;
	bool has_traffic; /* the options allow TOP_BY_TRAFFIC */
	/* Takes a sample. Returns 0 or -errno: then note has the reason. */
	int (*sample)(struct top *top);
	void *source;	/* of sample() */
	char note[256]; /* about the last sample: a failure, or what it lacks; empty: nothing */
};

#endif
