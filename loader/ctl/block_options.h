/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Parsers of the options and operands of `block`, `unblock` and `allow`, for struct optable;
 * options is a struct ctl_options. They return 0, or -EINVAL with the reason in error.
 */
#ifndef TPROXY_CTL_BLOCK_OPTIONS_H
#define TPROXY_CTL_BLOCK_OPTIONS_H

#include <stdbool.h>

#include "optable.h"
#include "settings.h"

/* Returns true if the command is one of these three. */
bool block_options_are_of(enum ctl_command command);

int block_options_add_operand(void *options, const char *value, char error[OPTABLE_ERROR_LEN]);
/* --list, --stats, --apply, --keep, --revert and --clear. */
int block_options_set_action(const struct optable_row *row, void *options, const char *value,
			     unsigned int line, char error[OPTABLE_ERROR_LEN]);
int block_options_set_comment(const struct optable_row *row, void *options, const char *value,
			      unsigned int line, char error[OPTABLE_ERROR_LEN]);
int block_options_set_error(const struct optable_row *row, void *options, const char *value,
			    unsigned int line, char error[OPTABLE_ERROR_LEN]);

/* Checks that need all options. Returns 0 or -EINVAL, logged. */
int block_options_check(const struct optable *of_command, const struct ctl_options *options);

#endif
