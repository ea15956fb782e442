/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The answer of a relay's admin address about its upstreams. On a loopback port anyone may listen
 * while no relay does, so nothing is believed: not its form, and not that its text is harmless.
 */
#ifndef TPROXY_HOST_UPSTREAMS_ANSWER_H
#define TPROXY_HOST_UPSTREAMS_ANSWER_H

struct json_object;

#define UPSTREAMS_ANSWER_DOCUMENT "/upstreams.json"

/*
 * Reads the body of the answer. *ret_root is the document: an array "upstreams" of objects with
 * "name" and "type"; members that this program reads have the right types, and in all names and
 * strings bytes that are not printable ASCII are escaped (escape.h). The caller frees it.
 *
 * Returns 0; -EPROTO if this is no such document; -EPROTONOSUPPORT if its version is not
 * JSON_DOCUMENT_VERSION; or -ENOMEM. Nothing is logged.
 */
int upstreams_answer_parse(const char *body, struct json_object **ret_root);

#endif
