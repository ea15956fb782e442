// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Frees what a configuration of upstreams owns, see upstream.h. It needs no library. */
#include <stdlib.h>

#include "names.h"
#include "secret.h"
#include "upstream.h"
#include "util.h"

void upstream_conf_finish(struct upstream_conf *conf)
{
	secret_free(TAKE_PTR(conf->secret));
}

void upstreams_conf_finish(struct upstreams_conf *conf)
{
	size_t i;

	for (i = 0; conf->list && i < conf->n; i++)
		upstream_conf_finish(&conf->list[i]);
	names_unref(conf->names);
	free(conf->list);
	*conf = (struct upstreams_conf){};
}
