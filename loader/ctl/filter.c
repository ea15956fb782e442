// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * See filter.h. "In or below a cgroup" is a question about paths, and a connection has only the id
 * of its cgroup. The answer for each id is therefore kept in a small cache: many connections share
 * a few cgroups. A cgroup that was removed is found only if its id is that of --cgroup itself.
 */
#include "filter.h"

#include <errno.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "conn_row.h"
#include "host/address.h"
#include "host/cgroup.h"
#include "log.h"
#include "parse.h"
#include "rules/prefix.h"
#include "util.h"

/* PID_MAX_LIMIT of a 64-bit kernel, include/linux/threads.h. */
#define PID_MAX (4 * 1024 * 1024)

struct filter_cgroups {
	struct cgroup list[FILTER_VALUES_MAX];
	size_t n;
	struct {
		uint64_t id; /* 0: free */
		bool within;
	} known[256];
};

/* The words of observed_end() and "refused", then what stands for several of them. */
enum fate {
	FATE_CLOSED,
	FATE_RESET_BY_CLIENT,
	FATE_RESET_BY_SERVER,
	FATE_DESTINATION_FAILED,
	FATE_GIVEN_UP,
	FATE_TIMED_OUT,
	FATE_NOT_SENT,
	FATE_ABORTED,
	FATE_UNSEEN,
	FATE_REFUSED,
	_FATE_MAX,
};

static const char *const fate_names[_FATE_MAX] = {
	[FATE_CLOSED] = "closed",
	[FATE_RESET_BY_CLIENT] = "reset by client",
	[FATE_RESET_BY_SERVER] = "reset by server",
	[FATE_DESTINATION_FAILED] = "destination failed",
	[FATE_GIVEN_UP] = "given up",
	[FATE_TIMED_OUT] = "timed out",
	[FATE_NOT_SENT] = "not sent",
	[FATE_ABORTED] = "aborted",
	[FATE_UNSEEN] = "end not seen",
	[FATE_REFUSED] = "refused",
};

#define FATES_FAILED                                                                               \
	(1U << FATE_DESTINATION_FAILED | 1U << FATE_GIVEN_UP | 1U << FATE_TIMED_OUT |              \
	 1U << FATE_NOT_SENT | 1U << FATE_ABORTED | 1U << FATE_REFUSED)

static int check_room(size_t n, const char *value, char error[OPTABLE_ERROR_LEN])
{
	if (n < FILTER_VALUES_MAX)
		return 0;
	return optable_refuse(error, "'%s' is one more than %d values", value, FILTER_VALUES_MAX);
}

int filter_add_command(struct conn_filter *filter, const char *value, char error[OPTABLE_ERROR_LEN])
{
	if (check_room(filter->n_commands, value, error) < 0)
		return -EINVAL;
	if (!*value)
		return optable_refuse(error, "the name is empty");
	/* Without the '*' at the end. */
	if (strlen(value) - (value[strlen(value) - 1] == '*') >= TPROXY_COMM_LEN)
		return optable_refuse(error, "'%s' is longer than the %d bytes of a command", value,
				      TPROXY_COMM_LEN - 1);
	strcpy(filter->commands[filter->n_commands++], value);
	return 0;
}

int filter_add_pid(struct conn_filter *filter, const char *value, char error[OPTABLE_ERROR_LEN])
{
	uint32_t pid;

	if (check_room(filter->n_pids, value, error) < 0)
		return -EINVAL;
	if (parse_u32(value, 1, PID_MAX, &pid) < 0)
		return optable_refuse(error, "'%s' is not a process ID", value);
	filter->pids[filter->n_pids++] = pid;
	return 0;
}

int filter_add_uid(struct conn_filter *filter, const char *value, char error[OPTABLE_ERROR_LEN])
{
	const struct passwd *user;
	uint32_t uid;

	if (check_room(filter->n_uids, value, error) < 0)
		return -EINVAL;
	if (parse_u32(value, 0, UINT32_MAX - 1, &uid) < 0) {
		user = getpwnam(value);
		if (!user)
			return optable_refuse(error, "'%s' is neither a user ID nor a user", value);
		uid = user->pw_uid;
	}
	filter->uids[filter->n_uids++] = uid;
	return 0;
}

int filter_add_cgroup(struct conn_filter *filter, const char *value, char error[OPTABLE_ERROR_LEN])
{
	if (check_room(filter->n_cgroups, value, error) < 0)
		return -EINVAL;
	if (!*value)
		return optable_refuse(error, "the path is empty");
	filter->cgroups[filter->n_cgroups++] = value;
	return 0;
}

/* Parses "N" or "N-M". */
static int parse_ports(const char *value, struct filter_ports *ret_ports)
{
	const char *dash = strchr(value, '-');
	uint32_t first, last;
	char text[8];

	snprintf(text, sizeof(text), "%.*s", dash ? (int)(dash - value) : (int)strlen(value),
		 value);
	if (parse_u32(text, 0, UINT16_MAX, &first) < 0)
		return -EINVAL;
	last = first;
	if (dash && parse_u32(dash + 1, 0, UINT16_MAX, &last) < 0)
		return -EINVAL;
	if (last < first || (dash && dash - value >= (ptrdiff_t)sizeof(text)))
		return -EINVAL;
	*ret_ports = (struct filter_ports){ .first = (uint16_t)first, .last = (uint16_t)last };
	return 0;
}

int filter_add_port(struct conn_filter *filter, const char *value, char error[OPTABLE_ERROR_LEN])
{
	if (check_room(filter->n_ports, value, error) < 0)
		return -EINVAL;
	if (parse_ports(value, &filter->ports[filter->n_ports]) < 0)
		return optable_refuse(error, "'%s' is neither a port nor a range such as 8000-8100",
				      value);
	filter->n_ports++;
	return 0;
}

/* A range of addresses may need several prefixes. */
int filter_add_to(struct conn_filter *filter, const char *value, char error[OPTABLE_ERROR_LEN])
{
	_cleanup_(prefixes_finish) struct prefixes prefixes = {};
	size_t i;

	switch (prefixes_parse(&prefixes, value, strlen(value), /* mask= */ false)) {
	case PREFIX_OK:
		break;
	case PREFIX_HOST_BITS:
		return optable_refuse(error, "'%s' has bits set beyond its length", value);
	case PREFIX_NO_MEMORY:
		return optable_refuse(error, "'%s': out of memory", value);
	default:
		return optable_refuse(
			error, "'%s' is not an address, or a network such as 192.0.2.0/24", value);
	}
	for (i = 0; i < prefixes.n; i++) {
		if (check_room(filter->n_prefixes, value, error) < 0)
			return -EINVAL;
		filter->prefixes[filter->n_prefixes++] = prefixes.list[i];
	}
	return 0;
}

/* Compares names, with '-' in a value for a blank. */
static bool is_fate(const char *value, const char *name)
{
	for (; *value && *name; value++, name++) {
		if (*value != *name && !(*value == '-' && *name == ' '))
			return false;
	}
	return !*value && !*name;
}

int filter_add_fate(struct conn_filter *filter, const char *value, char error[OPTABLE_ERROR_LEN])
{
	enum fate fate;

	if (is_fate(value, "failed")) {
		filter->fates |= FATES_FAILED;
		return 0;
	}
	for (fate = 0; fate < _FATE_MAX; fate++) {
		if (!is_fate(value, fate_names[fate]))
			continue;
		filter->fates |= 1U << fate;
		return 0;
	}
	return optable_refuse(error,
			      "'%s' is none of closed, reset-by-client, reset-by-server, "
			      "destination-failed, given-up, timed-out, not-sent, aborted, "
			      "end-not-seen, refused and failed",
			      value);
}

int filter_add_verdict(struct conn_filter *filter, const char *value, char error[OPTABLE_ERROR_LEN])
{
	enum conn_verdict verdict;

	if (conn_verdict_parse(value, &verdict) < 0)
		return optable_refuse(
			error, "'%s' is none of redirected, direct, observed and refused", value);
	filter->verdicts |= 1U << verdict;
	return 0;
}

int filter_prepare(struct conn_filter *filter)
{
	struct filter_cgroups *in;
	size_t i;
	int r;

	if (!filter->n_cgroups)
		return 0;
	in = calloc(1, sizeof(*in));
	if (!in) {
		log_err("out of memory");
		return -ENOMEM;
	}
	filter->in = in;
	for (i = 0; i < filter->n_cgroups; i++) {
		r = cgroup_open(filter->cgroups[i], &in->list[i]);
		if (r < 0) {
			log_err("--cgroup: '%s' %s%s", filter->cgroups[i],
				r == -ENOENT ? "cannot be opened: " : "", cgroup_strerror(r));
			return r;
		}
		in->n++;
		util_closep(&in->list[i].fd);
	}
	return 0;
}

void filter_finish(struct conn_filter *filter)
{
	size_t i;

	for (i = 0; filter->in && i < filter->in->n; i++)
		cgroup_close(&filter->in->list[i]);
	free(filter->in);
	filter->in = NULL;
}

bool filter_is_empty(const struct conn_filter *filter)
{
	return !filter->n_cgroups && filter_is_of_cgroups(filter);
}

bool filter_is_of_cgroups(const struct conn_filter *filter)
{
	return !filter->n_commands && !filter->n_pids && !filter->n_uids && !filter->n_ports &&
	       !filter->n_prefixes && !filter->verdicts && !filter->fates;
}

static bool command_fits(const struct conn_filter *filter, const char *comm)
{
	size_t i, len;

	for (i = 0; i < filter->n_commands; i++) {
		const char *wanted = filter->commands[i];

		len = strlen(wanted);
		if (wanted[len - 1] == '*' ? strncmp(comm, wanted, len - 1) == 0
					   : strcmp(comm, wanted) == 0)
			return true;
	}
	return filter->n_commands == 0;
}

static bool number_fits(const uint32_t *values, size_t n, uint32_t number)
{
	size_t i;

	for (i = 0; i < n; i++) {
		if (values[i] == number)
			return true;
	}
	return n == 0;
}

/* Compares the path of a cgroup with those of the filter. */
static bool is_within_any(const struct filter_cgroups *in, uint64_t id)
{
	struct cgroup cgroup = CGROUP_NULL;
	bool within = false;
	size_t i;

	for (i = 0; i < in->n; i++) {
		if (in->list[i].id == id)
			return true;
	}
	if (cgroup_path_by_id(id, &cgroup.path) < 0)
		return false;
	for (i = 0; i < in->n && !within; i++)
		within = cgroup_is_within(&cgroup, &in->list[i]);
	cgroup_close(&cgroup);
	return within;
}

static bool cgroup_fits(struct filter_cgroups *in, uint64_t id)
{
	size_t at;

	if (!in)
		return true;
	at = id % ARRAY_SIZE(in->known);
	if (in->known[at].id != id) {
		in->known[at].within = is_within_any(in, id);
		in->known[at].id = id;
	}
	return in->known[at].within;
}

static bool port_fits(const struct conn_filter *filter, uint16_t port)
{
	size_t i;

	for (i = 0; i < filter->n_ports; i++) {
		if (port >= filter->ports[i].first && port <= filter->ports[i].last)
			return true;
	}
	return filter->n_ports == 0;
}

static bool address_fits(const struct conn_filter *filter, const struct tproxy_endpoint *dst)
{
	struct tproxy_prefix address = { .n_bits = PREFIX_BITS_MAX };
	const bool ipv4 = address_is_ipv4(dst->addr);
	size_t i;

	memcpy(address.addr, dst->addr, sizeof(address.addr));
	for (i = 0; i < filter->n_prefixes; i++) {
		/* A shorter prefix than that of all IPv4 addresses is one of IPv6: ::/0. */
		if (ipv4 == (filter->prefixes[i].n_bits >= 96 &&
			     address_is_ipv4(filter->prefixes[i].addr)) &&
		    prefix_is_within(&address, &filter->prefixes[i]))
			return true;
	}
	return filter->n_prefixes == 0;
}

bool filter_matches(const struct conn_filter *filter, const struct conn_row *row)
{
	return (!filter->verdicts || filter->verdicts & 1U << row->verdict) &&
	       number_fits(filter->pids, filter->n_pids, row->pid) &&
	       number_fits(filter->uids, filter->n_uids, row->uid) &&
	       port_fits(filter, row->dst.port) && command_fits(filter, row->comm) &&
	       address_fits(filter, &row->dst) && cgroup_fits(filter->in, row->cgroup_id);
}

/* Returns true if the fate is one of these, bits by enum fate. */
static bool is_one_of(uint32_t fates, const char *fate)
{
	enum fate i;

	for (i = 0; i < _FATE_MAX; i++) {
		if (fates & 1U << i && strcmp(fate, fate_names[i]) == 0)
			return true;
	}
	return false;
}

bool filter_matches_fate(const struct conn_filter *filter, const char *fate)
{
	return !filter->fates || is_one_of(filter->fates, fate);
}

bool filter_is_failure(const char *fate)
{
	return is_one_of(FATES_FAILED, fate);
}
