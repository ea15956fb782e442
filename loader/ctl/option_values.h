/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Parsers of values, for OPTABLE_CUSTOM(); options is a struct ctl_options. They return 0, or
 * -EINVAL with the reason in error.
 */
#ifndef TPROXY_CTL_OPTION_VALUES_H
#define TPROXY_CTL_OPTION_VALUES_H

#include "optable.h"

int option_set_pid(const struct optable_row *row, void *options, const char *value,
		   unsigned int line, char error[OPTABLE_ERROR_LEN]);
int option_add_port(const struct optable_row *row, void *options, const char *value,
		    unsigned int line, char error[OPTABLE_ERROR_LEN]);
int option_set_cgroup(const struct optable_row *row, void *options, const char *value,
		      unsigned int line, char error[OPTABLE_ERROR_LEN]);
int option_set_uid(const struct optable_row *row, void *options, const char *value,
		   unsigned int line, char error[OPTABLE_ERROR_LEN]);
int option_add_to(const struct optable_row *row, void *options, const char *value,
		  unsigned int line, char error[OPTABLE_ERROR_LEN]);
int option_add_verdict(const struct optable_row *row, void *options, const char *value,
		       unsigned int line, char error[OPTABLE_ERROR_LEN]);
int option_set_command(const struct optable_row *row, void *options, const char *value,
		       unsigned int line, char error[OPTABLE_ERROR_LEN]);
int option_set_via(const struct optable_row *row, void *options, const char *value,
		   unsigned int line, char error[OPTABLE_ERROR_LEN]);
int option_set_delay(const struct optable_row *row, void *options, const char *value,
		     unsigned int line, char error[OPTABLE_ERROR_LEN]);
int option_add_fate(const struct optable_row *row, void *options, const char *value,
		    unsigned int line, char error[OPTABLE_ERROR_LEN]);
int option_set_exit_over(const struct optable_row *row, void *options, const char *value,
			 unsigned int line, char error[OPTABLE_ERROR_LEN]);

#endif
