/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* `tproxyctl rules`: what it does, by its first operand. Each returns the exit status. */
#ifndef TPROXY_CTL_RULES_H
#define TPROXY_CTL_RULES_H

#include <stdint.h>

struct ctl_options;
struct rules_store;

int rules_check(const struct ctl_options *options);
int rules_load(const struct ctl_options *options);
int rules_unload(const struct ctl_options *options);
int rules_confirm(const struct ctl_options *options);
int rules_revert(const struct ctl_options *options);
/* show and stats. */
int rules_show(const struct ctl_options *options);

/*
 * Waits until the rules of this generation, which rules_store_hold() can undo, are confirmed, or
 * until the time is over; then the rules before are put back. A second process does the latter if
 * this one is killed. The lock must not be held. Returns 0 if confirmed, 1 if taken back, or
 * -errno, logged.
 */
int rules_confirm_wait(const char *pin_dir, uint32_t generation, uint64_t timeout_ms);

#endif
