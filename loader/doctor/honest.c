// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * tproxyctl doctor: what keeps connect() from being honest although a relay offers that. The socket
 * that swallows SYNs while the relay dials drops those with a TTL below 255. SYNs over loopback
 * have the default TTL of the network namespace, so with a default of 255 the relay accepts first.
 */
#include <string.h>

#include "doctor.h"
#include "state/honest.h"

static bool check_ttl(struct doctor *d, const char *name, const char *path)
{
	char line[16];

	if (doctor_read_line(path, line, sizeof(line)) < 0 || strcmp(line, "255") != 0)
		return true;
	doctor_add(
		d, DOCTOR_WARNING, "honest",
		"%s is 255 in this network namespace: connect() succeeds before the destination is reached",
		name);
	doctor_fix(d, "sysctl %s=64", name);
	return false;
}

void doctor_honest(struct doctor *d)
{
	_cleanup_(honest_finish) struct honest honest = {};
	bool good;
	uint32_t flags;

	/* Faults of the pins were reported before. */
	if (!d->loaded || !d->privileged || honest_read(d->pin_dir, &honest) < 0)
		return;
	flags = honest_flags(&honest, 0);
	if (!(flags & TPROXY_LISTENER_CAPABLE))
		return;
	good = check_ttl(d, "net.ipv4.ip_default_ttl", "/proc/sys/net/ipv4/ip_default_ttl");
	good &= check_ttl(d, "net.ipv6.conf.lo.hop_limit", "/proc/sys/net/ipv6/conf/lo/hop_limit");
	if (good)
		doctor_add(d, DOCTOR_OK, "honest",
			   "relays offer honest connect %s; they use %u of %d rings",
			   flags & TPROXY_LISTENER_DEFAULT ? "by default"
							   : "to rules that ask for it",
			   honest.n_rings_used, TPROXY_RINGS_MAX);
}
