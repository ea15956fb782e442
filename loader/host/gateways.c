// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* tproxyctl. See gateways.h. */
#include "gateways.h"

#include <errno.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>

#include "address.h"
#include "netlink.h"
#include "util.h"

struct gateways {
	struct gateway *list;
	size_t n;
	int error;
};

static void add(struct gateways *g, int family, const void *bytes, size_t len)
{
	struct gateway *grown;

	if (len < (family == AF_INET ? 4U : 16U) || (family != AF_INET && family != AF_INET6))
		return;
	grown = reallocarray(g->list, g->n + 1, sizeof(*grown));
	if (!grown) {
		g->error = -ENOMEM;
		return;
	}
	g->list = grown;
	if (family == AF_INET)
		address_map4(grown[g->n++].addr, bytes);
	else
		memcpy(grown[g->n++].addr, bytes, 16);
}

/* Reads the gateway of a route, or of one of its next hops, which have the same attributes. */
static void read_attributes(struct gateways *g, int family, const struct rtattr *rta, int len);

static void read_hops(struct gateways *g, int family, const struct rtnexthop *hop, int len)
{
	for (; RTNH_OK(hop, len); hop = RTNH_NEXT(hop)) {
		read_attributes(g, family, RTNH_DATA(hop), hop->rtnh_len - (int)sizeof(*hop));
		len -= (int)RTNH_ALIGN(hop->rtnh_len);
	}
}

static void read_attributes(struct gateways *g, int family, const struct rtattr *rta, int len)
{
	for (; RTA_OK(rta, len); rta = RTA_NEXT(rta, len)) {
		const struct rtvia *via = RTA_DATA(rta);

		if (rta->rta_type == RTA_GATEWAY)
			add(g, family, RTA_DATA(rta), RTA_PAYLOAD(rta));
		else if (rta->rta_type == RTA_VIA && RTA_PAYLOAD(rta) > sizeof(*via))
			add(g, via->rtvia_family, via->rtvia_addr, RTA_PAYLOAD(rta) - sizeof(*via));
		else if (rta->rta_type == RTA_MULTIPATH)
			read_hops(g, family, RTA_DATA(rta), RTA_PAYLOAD(rta));
	}
}

/* A callback of netlink_dump(). */
static void take_route(const struct nlmsghdr *msg, void *data)
{
	const struct rtmsg *route = NLMSG_DATA(msg);

	if (msg->nlmsg_type != RTM_NEWROUTE || msg->nlmsg_len < NLMSG_LENGTH(sizeof(*route)) ||
	    route->rtm_dst_len != 0 || route->rtm_type != RTN_UNICAST)
		return;
	read_attributes(data, route->rtm_family, RTM_RTA(route), (int)RTM_PAYLOAD(msg));
}

int gateways_read(struct gateway **ret_list, size_t *ret_n)
{
	static const unsigned char families[] = { AF_INET, AF_INET6 };
	const struct timeval timeout = { .tv_sec = 2 };
	_cleanup_close_ int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
	struct gateways g = {};
	size_t i;
	int r = 0;

	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout)) < 0)
		return -errno;
	for (i = 0; i < ARRAY_SIZE(families) && r == 0; i++) {
		struct {
			struct nlmsghdr head;
			struct rtmsg route;
		} request = {
			.head = { .nlmsg_len = sizeof(request), .nlmsg_type = RTM_GETROUTE },
			.route = { .rtm_family = families[i] },
		};

		r = netlink_dump(fd, &request.head, take_route, &g);
	}
	r = r < 0 ? r : g.error;
	if (r < 0) {
		free(g.list);
		return r;
	}
	*ret_list = g.list;
	*ret_n = g.n;
	return 0;
}
