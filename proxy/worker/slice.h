/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The scheduling slice of a thread. */
#ifndef TPROXY_SLICE_H
#define TPROXY_SLICE_H

/*
 * Shortens the calling thread's slice. A thread with a short slice runs soon after its wakeup,
 * before threads with longer slices (EEVDF, since 6.12; ignored before). Its share of the CPU does
 * not change. A failure is ignored, and so is a thread with another policy than SCHED_OTHER.
 */
void slice_shorten(void);

#endif
