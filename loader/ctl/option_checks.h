/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What options of a command need, or exclude, of each other. */
#ifndef TPROXY_CTL_OPTION_CHECKS_H
#define TPROXY_CTL_OPTION_CHECKS_H

#include "optable.h"
#include "settings.h"

/* Checks all options of options->of_command. Returns 0 or -EINVAL, logged. */
int option_checks(const struct optable *of_command, const struct ctl_options *options);

#endif
