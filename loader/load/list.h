/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The pin of the iterator that lists the live connections (bpf/list.bpf.h). */
#ifndef TPROXY_LOAD_LIST_H
#define TPROXY_LOAD_LIST_H

#include <sys/types.h>

struct bpf_object;
struct created;
struct pins;

/*
 * Pins the iterator, readable by @gid. The pin of an earlier load is replaced, and is there at
 * every moment. A new pin is noted in *created. If @object was loaded without the iterator, the pin
 * of an earlier load is removed. Returns 0 or -errno, logged.
 */
int list_pin(const struct bpf_object *object, const struct pins *pins, gid_t gid,
	     struct created *created);

/* Sets owner and mode of the pin, if it is there. Returns 0 or -errno, logged. */
int list_set_access(const struct pins *pins, gid_t gid);

/* Excludes the iterator from the load of @object. */
void list_leave_out(const struct bpf_object *object);

#endif
