/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Parsers of operands, for struct optable; options is a struct ctl_options. They return 0, or
 * -EINVAL with the reason in error.
 */
#ifndef TPROXY_CTL_OPERAND_H
#define TPROXY_CTL_OPERAND_H

#include <stdbool.h>

#include "optable.h"
#include "settings.h"

int operand_add_destination(void *options, const char *value, char error[OPTABLE_ERROR_LEN]);
int operand_add_rules(void *options, const char *value, char error[OPTABLE_ERROR_LEN]);
int operand_add_word(void *options, const char *value, char error[OPTABLE_ERROR_LEN]);

/* True if a FILE follows the verb. */
bool operand_takes_file(enum ctl_rules_verb verb);
/* Prints the verbs of `rules` as rows of the table for scripts. */
void operand_print_verbs(void);

#endif
