/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Where `tproxyctl top` gets its samples and names from. */
#ifndef TPROXY_CTL_TOP_SOURCE_H
#define TPROXY_CTL_TOP_SOURCE_H

#include "host/name_cache.h"

struct ctl_options;
struct top;

struct top_source {
	const struct ctl_options *options;
	struct name_cache users, cgroups;
};

/* Sets the names and the sampling of @top, which borrows @source and @options. */
void top_source_init(struct top_source *source, const struct ctl_options *options, struct top *top);
/* For use with _cleanup_(). */
void top_source_finish(struct top_source *source);

#endif
