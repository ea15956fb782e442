// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * tproxyctl doctor: the user who runs it, and settings of the host that do not depend on the pins:
 * capabilities, the BPF compiler, unprivileged BPF, descriptors and IPv6. check_privileges() sets
 * doctor.privileged, without which most later checks are left out. The limit of descriptors is that
 * of this shell; relay.c checks those of running relays.
 */
#include <errno.h>
#include <inttypes.h>
#include <linux/capability.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "doctor.h"
#include "host/process.h"

/*
 * tproxy-load runs as root and needs these capabilities. This command needs them to look at
 * everything.
 */
static void check_privileges(struct doctor *d)
{
	static const struct {
		int number;
		const char *name;
	} wanted[] = {
		{ CAP_BPF, "CAP_BPF" },
		{ CAP_NET_ADMIN, "CAP_NET_ADMIN" },
		{ CAP_PERFMON, "CAP_PERFMON" },
	};
	const uint64_t all = UINT64_C(1) << CAP_SYS_ADMIN;
	char missing[64] = "";
	uint64_t caps = 0;
	size_t i;

	process_capabilities(0, &caps);
	for (i = 0; i < ARRAY_SIZE(wanted); i++) {
		/*
		 * CAP_SYS_ADMIN includes CAP_BPF and CAP_PERFMON, which were split off from it in
		 * 5.8.
		 */
		if (caps & UINT64_C(1) << wanted[i].number ||
		    (caps & all && wanted[i].number != CAP_NET_ADMIN))
			continue;
		strcat(missing, *missing ? ", " : "");
		strcat(missing, wanted[i].name);
	}
	d->privileged = !*missing;
	if (*missing)
		doctor_add(
			d, DOCTOR_ERROR, "privileges",
			"not privileged (uid %u without %s): nothing can be loaded, and many checks are left out",
			geteuid(), missing);
	else if (geteuid() != 0)
		doctor_add(d, DOCTOR_ERROR, "privileges",
			   "uid %u has the capabilities, but tproxy-load must be run by root",
			   geteuid());
	else
		doctor_add(d, DOCTOR_OK, "privileges",
			   "root with CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON");
	if (geteuid() != 0 || *missing)
		doctor_fix(d, "sudo tproxyctl doctor");
}

static void check_jit(struct doctor *d)
{
	char line[16];

	/* With CONFIG_BPF_JIT_ALWAYS_ON it is 1 and cannot be changed. */
	if (doctor_read_line("/proc/sys/net/core/bpf_jit_enable", line, sizeof(line)) < 0)
		return;
	if (strcmp(line, "0") == 0) {
		doctor_add(
			d, DOCTOR_WARNING, "jit",
			"BPF programs are interpreted: each connection costs more CPU than necessary");
		doctor_fix(d, "sysctl net.core.bpf_jit_enable=1");
	} else {
		doctor_add(d, DOCTOR_OK, "jit", "BPF programs are compiled");
	}
}

static void check_unprivileged(struct doctor *d)
{
	char line[16];

	if (doctor_read_line("/proc/sys/kernel/unprivileged_bpf_disabled", line, sizeof(line)) < 0)
		return;
	doctor_add(
		d, DOCTOR_INFO, "bpf",
		"kernel.unprivileged_bpf_disabled is %s: processes without CAP_BPF may %sload programs",
		line, strcmp(line, "0") == 0 ? "" : "not ");
}

/* A service has a limit of its own. This one applies to a relay that is started from here. */
static void check_nofile(struct doctor *d)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		return;
	if (limit.rlim_max < DOCTOR_NOFILE_FEW) {
		doctor_add(d, DOCTOR_WARNING, "nofile",
			   "RLIMIT_NOFILE is %" PRIu64
			   " here: a relay started from here serves few connections at a time",
			   (uint64_t)limit.rlim_max);
		doctor_fix(d, "ulimit -Hn 65536; for a service: LimitNOFILE=65536");
	} else {
		doctor_add(d, DOCTOR_OK, "nofile",
			   "RLIMIT_NOFILE is %" PRIu64 " here: about %" PRIu64
			   " connections at a time for each relay",
			   (uint64_t)limit.rlim_max, (uint64_t)limit.rlim_max / 2);
	}
}

static void check_ipv6(struct doctor *d)
{
	const struct sockaddr_in6 loopback = { .sin6_family = AF_INET6,
					       .sin6_addr = IN6ADDR_LOOPBACK_INIT };
	_cleanup_close_ int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		doctor_add(d, DOCTOR_INFO, "ipv6", "this kernel has no IPv6: only IPv4 is proxied");
	else if (bind(fd, (const struct sockaddr *)&loopback, sizeof(loopback)) < 0)
		doctor_add(
			d, DOCTOR_INFO, "ipv6",
			"there is no IPv6 in this network namespace (::1: %s): only IPv4 is proxied",
			strerror(errno));
	else
		doctor_add(d, DOCTOR_OK, "ipv6", "IPv6 is usable");
}

void doctor_system(struct doctor *d)
{
	check_privileges(d);
	check_jit(d);
	check_unprivileged(d);
	check_nofile(d);
	check_ipv6(d);
}
