/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The verbs of `tproxyctl rules`. Each function returns the exit status. */
#ifndef TPROXY_CTL_RULES_H
#define TPROXY_CTL_RULES_H

struct ctl_options;

int rules_check(const struct ctl_options *options);
int rules_load(const struct ctl_options *options);
int rules_unload(const struct ctl_options *options);
int rules_confirm(const struct ctl_options *options);
int rules_revert(const struct ctl_options *options);
/* show and stats. */
int rules_show(const struct ctl_options *options);

#endif
