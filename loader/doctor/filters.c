// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* tproxyctl doctor. See filters.h. */
#include "filters.h"

#include <bpf/bpf.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "host/address.h"
#include "host/cgroup_programs.h"

void filters_finish(struct filters *filters)
{
	while (filters->n > 0)
		close(filters->list[--filters->n].fd);
}

/* The program of HOOK_EGRESS, which passes TCP. */
#define OWN_NAME "tproxy_egress"

/*
 * Adds the foreign programs of one direction. A program that cannot be opened is left out: it has
 * been unloaded, or this process lacks the permission.
 */
static void add_programs(struct filters *to, int cgroup_fd, bool egress)
{
	struct cgroup_programs programs;
	__u32 i;

	if (cgroup_programs_query(cgroup_fd,
				  egress ? BPF_CGROUP_INET_EGRESS : BPF_CGROUP_INET_INGRESS, 0,
				  &programs) < 0)
		return;
	for (i = 0; i < programs.n && i < FILTERS_MAX; i++) {
		struct filter *filter = &to->list[to->n];
		struct bpf_prog_info info = {};
		__u32 len = sizeof(info);

		*filter = (struct filter){ .fd = bpf_prog_get_fd_by_id(programs.id[i]),
					   .id = programs.id[i],
					   .egress = egress };
		if (filter->fd < 0)
			continue;
		if (bpf_obj_get_info_by_fd(filter->fd, &info, &len) == 0)
			memcpy(filter->name, info.name, sizeof(info.name));
		if (strcmp(filter->name, OWN_NAME) == 0) {
			close(filter->fd);
			continue;
		}
		to->n++;
	}
}

bool filters_are_systemds(const struct filters *filters)
{
	size_t i;

	for (i = 0; i < filters->n; i++) {
		if (strncmp(filters->list[i].name, "sd_fw_", 6) != 0)
			return false;
	}
	return true;
}

void filters_collect(int cgroup_fd, struct filters *ret)
{
	ret->n = 0;
	add_programs(ret, cgroup_fd, /* egress= */ true);
	add_programs(ret, cgroup_fd, /* egress= */ false);
}

void filters_choose_samples(const struct filters *filters, struct verdict_samples *ret)
{
	size_t i;

	ret->n = 0;
	verdict_add_usual(ret);
	for (i = 0; i < filters->n; i++)
		verdict_add_of_program(ret, filters->list[i].fd);
}

/*
 * Returns 1 if a handshake with this address passes all programs, 0 if one drops it, or -errno if
 * that cannot be found out.
 */
static int passes(const struct filters *filters, const struct tproxy_endpoint *remote,
		  unsigned int ifindex)
{
	size_t i;
	int r;

	for (i = 0; i < filters->n; i++) {
		r = verdict_run(filters->list[i].fd, filters->list[i].egress, remote, ifindex);
		if (r <= 0)
			return r;
	}
	return 1;
}

int filters_try(const struct filters *filters, const struct tproxy_endpoint *relay,
		const struct verdict_samples *samples, unsigned int ifindex,
		struct filters_outcome *ret)
{
	size_t i;
	int r;

	*ret = (struct filters_outcome){ .relay = relay->port ? relay : NULL };
	if (!ret->relay)
		return 0;
	r = passes(filters, relay, 0);
	if (r < 0)
		return r;
	ret->cut = r == 0;
	for (i = 0; i < samples->n; i++) {
		if (address_is_ipv4(samples->ep[i].addr) != address_is_ipv4(relay->addr))
			continue;
		r = passes(filters, &samples->ep[i], ifindex);
		if (r < 0)
			return r;
		ret->some_pass |= r > 0;
		if (r == 0 && !ret->some_drop) {
			ret->some_drop = true;
			ret->dropped = samples->ep[i];
		}
	}
	return 0;
}

void filters_describe(const struct filters *filters, char *buf, size_t size)
{
	size_t i, len = 0;

	*buf = '\0';
	for (i = 0; i < filters->n && len < size; i++)
		len += (size_t)snprintf(buf + len, size - len, "%sprogram %u, '%s', on %s",
					i ? "; " : "", filters->list[i].id, filters->list[i].name,
					filters->list[i].egress ? "egress" : "ingress");
}
