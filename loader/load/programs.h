/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The loaded programs of the BPF object, one for each hook, and their pins. */
#ifndef TPROXY_LOAD_PROGRAMS_H
#define TPROXY_LOAD_PROGRAMS_H

#include <sys/types.h>

struct bpf_object;
struct bpf_program;
struct hook;
struct created;
struct pins;

/* Returns the program of @hook, which belongs to @object. */
struct bpf_program *programs_find(const struct bpf_object *object, const struct hook *hook);

/*
 * Logs that the kernel has rejected the programs with the error @r, and kernel lockdown if that is
 * why; otherwise @advice.
 */
void programs_log_rejected(int r, const char *advice);

/*
 * Pins the program of each hook, for root, or for the group @gid too if relays open it. The pin of
 * an earlier load is replaced, and is there at every moment. New pins are noted in *created.
 * Returns 0 or -errno, logged.
 */
int programs_pin(const struct bpf_object *object, const struct pins *pins, gid_t gid,
		 struct created *created);
/* Gives the pins of programs that relays open to the group @gid. Returns 0 or -errno, logged. */
int programs_set_access(const struct pins *pins, gid_t gid);

#endif
