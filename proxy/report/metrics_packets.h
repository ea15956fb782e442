/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The metrics of the block list and of the traffic of cgroups, in the format of metrics.h. */
#ifndef TPROXY_METRICS_PACKETS_H
#define TPROXY_METRICS_PACKETS_H

#include <stdio.h>

struct packets;

void metrics_write_packets(FILE *out, const struct packets *packets);

#endif
