/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Where `tproxyctl top` gets its samples and names from. */
#ifndef TPROXY_CTL_TOP_SOURCE_H
#define TPROXY_CTL_TOP_SOURCE_H

#include "host/name_cache.h"
#include "state/upstream_names.h"
#include "top_model.h"
#include "top_traffic.h"

struct ctl_options;
struct top;

struct top_source {
	const struct ctl_options *options;
	struct name_cache users, cgroups;
	struct upstream_names upstreams;	 /* open while a sample is taken */
	struct top_model *connections, *traffic; /* owned; traffic: of TOP_BY_TRAFFIC */
	struct top_traffic counts;
};

/*
 * Sets the models, the names and the sampling of @top, which borrows @source and @options. Returns
 * 0 or -ENOMEM. The caller calls top_source_finish(), after a failure too.
 */
int top_source_init(struct top_source *source, const struct ctl_options *options, struct top *top);
/* Sets the view of @top, and the model that it is made from. */
void top_source_select(struct top *top, enum top_by by);
/* For use with _cleanup_(). */
void top_source_finish(struct top_source *source);

#endif
