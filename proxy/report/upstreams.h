/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Reports about upstreams: a JSON document, which `tproxyctl upstreams` asks for, and metrics. The
 * labels of the metrics are the names of upstreams and fixed words. No report has a user or a
 * password.
 */
#ifndef TPROXY_REPORT_UPSTREAMS_H
#define TPROXY_REPORT_UPSTREAMS_H

#include <stdint.h>
#include <stdio.h>

struct jsonout;
struct upstreams;

/* Version of the document's members. New members do not change it. */
#define UPSTREAMS_JSON_VERSION 1

/* All take a set or NULL, and any thread. now_ms: of monotonic_coarse_ms(). */
void upstreams_report_json(FILE *out, const struct upstreams *set, uint64_t now_ms);
/* Writes the array "upstreams" of the document, for the page too. */
void upstreams_report_list(struct jsonout *json, const struct upstreams *set, uint64_t now_ms);
void upstreams_report_metrics(FILE *out, const struct upstreams *set);

#endif
