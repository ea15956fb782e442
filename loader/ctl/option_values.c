// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * The values of tproxyctl's options, where a row of the table does not say it all: each function
 * parses one value into struct ctl_options. Commands that show connections have a filter, to which
 * each option adds a value; other commands take one value.
 */
#include "option_values.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "parse.h"
#include "settings.h"
#include "top_delay.h"
#include "upstream_id.h"

static bool is_filtered(const struct ctl_options *o)
{
	return CTL_FILTERED & 1U << o->of_command;
}

int option_set_pid(const struct optable_row *row, void *options, const char *value,
		   unsigned int line, char error[OPTABLE_ERROR_LEN])
{
	struct ctl_options *o = options;
	uint32_t pid;

	if (is_filtered(o))
		return filter_add_pid(&o->filter, value, error);
	if (optable_number(row, value, &pid, error) < 0)
		return -EINVAL;
	o->pid = (pid_t)pid;
	return 0;
}

int option_add_port(const struct optable_row *row, void *options, const char *value,
		    unsigned int line, char error[OPTABLE_ERROR_LEN])
{
	struct ctl_options *o = options;
	uint32_t port;
	size_t i;

	if (is_filtered(o))
		return filter_add_port(&o->filter, value, error);
	if (optable_number(row, value, &port, error) < 0)
		return -EINVAL;
	for (i = 0; i < o->n_ports; i++) {
		if (o->ports[i] == port)
			return 0;
	}
	if (o->n_ports == TPROXY_PORTS_MAX)
		return optable_refuse(error, "'%s' is one more than the %d that a relay has", value,
				      TPROXY_PORTS_MAX);
	o->ports[o->n_ports++] = (uint16_t)port;
	return 0;
}

int option_set_cgroup(const struct optable_row *row, void *options, const char *value,
		      unsigned int line, char error[OPTABLE_ERROR_LEN])
{
	struct ctl_options *o = options;

	if (is_filtered(o))
		return filter_add_cgroup(&o->filter, value, error);
	return optable_path(value, o->cgroup, error);
}

int option_set_uid(const struct optable_row *row, void *options, const char *value,
		   unsigned int line, char error[OPTABLE_ERROR_LEN])
{
	struct ctl_options *o = options;

	if (is_filtered(o))
		return filter_add_uid(&o->filter, value, error);
	return optable_number(row, value, &o->uid, error);
}

int option_add_to(const struct optable_row *row, void *options, const char *value,
		  unsigned int line, char error[OPTABLE_ERROR_LEN])
{
	return filter_add_to(&((struct ctl_options *)options)->filter, value, error);
}

int option_add_verdict(const struct optable_row *row, void *options, const char *value,
		       unsigned int line, char error[OPTABLE_ERROR_LEN])
{
	return filter_add_verdict(&((struct ctl_options *)options)->filter, value, error);
}

int option_set_command(const struct optable_row *row, void *options, const char *value,
		       unsigned int line, char error[OPTABLE_ERROR_LEN])
{
	struct ctl_options *o = options;

	if (is_filtered(o))
		return filter_add_command(&o->filter, value, error);
	if (strlen(value) >= sizeof(o->command))
		return optable_refuse(error, "'%s' is longer than the %zu bytes of a command",
				      value, sizeof(o->command) - 1);
	strcpy(o->command, value);
	return 0;
}

int option_set_via(const struct optable_row *row, void *options, const char *value,
		   unsigned int line, char error[OPTABLE_ERROR_LEN])
{
	if (!upstream_name_is_valid(value, strlen(value)))
		return optable_refuse(error, "'%s' is not " UPSTREAM_NAME_EXPECTED, value);
	strcpy(((struct ctl_options *)options)->via, value);
	return 0;
}

int option_set_delay(const struct optable_row *row, void *options, const char *value,
		     unsigned int line, char error[OPTABLE_ERROR_LEN])
{
	struct ctl_options *o = options;

	if (top_parse_delay(value, &o->delay_ms) < 0)
		return optable_refuse(error, "'%s' is not a number of seconds from 0.1 to 3600",
				      value);
	return 0;
}

int option_add_fate(const struct optable_row *row, void *options, const char *value,
		    unsigned int line, char error[OPTABLE_ERROR_LEN])
{
	return filter_add_fate(&((struct ctl_options *)options)->filter, value, error);
}

/* Parses "N", or "N" and a unit: K, M, G or T, which "B" or "iB" may follow. All are of 1024. */
int option_set_exit_over(const struct optable_row *row, void *options, const char *value,
			 unsigned int line, char error[OPTABLE_ERROR_LEN])
{
	static const char units[] = "KMGT";
	const size_t digits = strspn(value, "0123456789");
	const char *rest = value + digits, *unit = *rest ? strchr(units, *rest) : NULL;
	struct ctl_options *o = options;
	uint64_t bytes;

	if (unit)
		rest++;
	if (!digits || digits > 7 ||
	    (*rest && strcmp(rest, "B") != 0 && !(unit && strcmp(rest, "iB") == 0)))
		return optable_refuse(error, "'%s' is not a size such as 512K, 100MiB or 1G",
				      value);
	bytes = strtoul(value, NULL, 10) << (unit ? 10 * (unit - units + 1) : 0);
	if (!bytes)
		return optable_refuse(error, "'%s' is no size: it must be over 0", value);
	o->exit_over = bytes;
	return 0;
}
