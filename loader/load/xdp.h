/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The step of a load that attaches the packet filter to the interfaces of --xdp. */
#ifndef TPROXY_LOAD_XDP_H
#define TPROXY_LOAD_XDP_H

#include <stdbool.h>
#include <stddef.h>

struct bpf_object;
struct created;
struct load_options;
struct pins;
struct tproxy_target;

struct xdp_step {
	struct tproxy_target *list; /* as --xdp names them */
	size_t n;
	bool elsewhere;		      /* --again: the interfaces are of another network namespace */
	struct tproxy_target *before; /* those of the load before */
	size_t n_before;
};

/* Functions here return 0 or -errno, logged, unless stated otherwise. */

/* *step must be zeroed. Call xdp_step_finish() after a failure too. */
int xdp_step_open(const struct load_options *options, struct xdp_step *step);
void xdp_step_finish(struct xdp_step *step);

/*
 * Refuses if another program is attached to one of the interfaces, or if one has no native mode
 * although --xdp-mode asks for it. Changes nothing. An interface that does not exist is no error.
 */
int xdp_step_check(const struct pins *pins, const struct xdp_step *step);

/* Reads the interfaces of the load before. Not logged: without them the report is shorter. */
void xdp_step_read_before(int targets_fd, struct xdp_step *step);

/*
 * Attaches the program of @object to the interfaces that exist. Links of an earlier load get the
 * new program, those of another network namespace too. New pins are noted in *created.
 */
int xdp_step_attach(const struct bpf_object *object, struct pins *pins, struct xdp_step *step,
		    struct created *created);

/*
 * Detaches interfaces that are no longer named, and removes severed links. Returns the first error,
 * logged; the links after a failed one are detached too.
 */
int xdp_step_detach(struct pins *pins, const struct xdp_step *step);

/* Prints a line for each interface, and for each that is no longer filtered. */
void xdp_step_report(const struct pins *pins, const struct xdp_step *step);

#endif
