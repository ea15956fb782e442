// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * tproxy-load and tproxyctl. See interface.h.
 *
 * One interface is asked for, by name or index. bpf_xdp_query() of libbpf would dump all of them,
 * and hosts of containers have thousands. Each question has a socket of its own: questions are
 * rare, and an answer that is not read does not disturb the next one.
 */
#include "interface.h"

#include <errno.h>
#include <linux/ethtool.h>
#include <linux/genetlink.h>
#include <linux/if_link.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sockios.h>
#include <stdalign.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/time.h>

#include "util.h"

#define BUFFER_SIZE 32768

/* The family "netdev" of generic netlink, Linux 6.3; from linux/netdev.h. */
#define NETDEV_FAMILY		"netdev"
#define NETDEV_DEV_GET		1
#define NETDEV_DEV_IFINDEX	1
#define NETDEV_DEV_XDP_FEATURES 3
#define NETDEV_XDP_BASIC	1

const char *interface_xdp_name(enum interface_xdp xdp)
{
	static const char *const names[] = {
		[INTERFACE_XDP_NONE] = "none",
		[INTERFACE_XDP_NATIVE] = "native",
		[INTERFACE_XDP_GENERIC] = "generic",
		[INTERFACE_XDP_OFFLOAD] = "offload",
		[INTERFACE_XDP_SEVERAL] = "several modes",
	};

	return names[xdp];
}

/* A request: a header, the header of its family, and a few attributes. */
struct request {
	alignas(NLMSG_ALIGNTO) char data[256];
};

static struct nlmsghdr *request_init(struct request *request, __u16 type, const void *family,
				     size_t len)
{
	struct nlmsghdr *msg = (struct nlmsghdr *)request->data;

	memset(request, 0, sizeof(*request));
	msg->nlmsg_type = type;
	msg->nlmsg_flags = NLM_F_REQUEST;
	msg->nlmsg_len = NLMSG_LENGTH(len);
	memcpy(NLMSG_DATA(msg), family, len);
	return msg;
}

static void request_add(struct nlmsghdr *msg, __u16 type, const void *value, size_t len)
{
	struct nlattr *attr = (struct nlattr *)((char *)msg + NLMSG_ALIGN(msg->nlmsg_len));

	attr->nla_type = type;
	attr->nla_len = (__u16)(NLA_HDRLEN + len);
	memcpy((char *)attr + NLA_HDRLEN, value, len);
	msg->nlmsg_len = NLMSG_ALIGN(msg->nlmsg_len) + NLA_ALIGN(attr->nla_len);
}

/* Sends a request for one object. Returns the length of the answer in @buffer, or -errno. */
static ssize_t ask(int protocol, const struct nlmsghdr *request, void *buffer)
{
	_cleanup_close_ int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, protocol);
	const struct timeval timeout = { .tv_sec = 2 };
	const struct nlmsghdr *msg = buffer;
	ssize_t len;

	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout)) < 0 ||
	    send(fd, request, request->nlmsg_len, 0) < 0)
		return -errno;
	len = recv(fd, buffer, BUFFER_SIZE, 0);
	if (len < 0)
		return -errno;
	if (!NLMSG_OK(msg, len))
		return -EBADMSG;
	if (msg->nlmsg_type == NLMSG_ERROR) {
		const struct nlmsgerr *error = NLMSG_DATA(msg);

		return error->error < 0 ? error->error : -EBADMSG;
	}
	return msg->nlmsg_len;
}

/* Returns the attribute of this type among @len bytes, or NULL. */
static const struct nlattr *find(const void *attrs, size_t len, __u16 type)
{
	const struct nlattr *attr = attrs;

	while (len >= sizeof(*attr) && attr->nla_len >= sizeof(*attr) && attr->nla_len <= len) {
		if ((attr->nla_type & NLA_TYPE_MASK) == type)
			return attr;
		if ((size_t)NLA_ALIGN(attr->nla_len) >= len)
			break;
		len -= (size_t)NLA_ALIGN(attr->nla_len);
		attr = (const struct nlattr *)((const char *)attr + NLA_ALIGN(attr->nla_len));
	}
	return NULL;
}

static const void *payload(const struct nlattr *attr)
{
	return (const char *)attr + NLA_HDRLEN;
}

static size_t payload_len(const struct nlattr *attr)
{
	return attr->nla_len - NLA_HDRLEN;
}

static __u32 read_u32(const struct nlattr *attr)
{
	__u32 value = 0;

	if (attr && payload_len(attr) >= sizeof(value))
		memcpy(&value, payload(attr), sizeof(value));
	return value;
}

static void read_xdp(const struct nlattr *xdp, struct interface *interface)
{
	static const enum interface_xdp modes[] = {
		[XDP_ATTACHED_NONE] = INTERFACE_XDP_NONE,
		[XDP_ATTACHED_DRV] = INTERFACE_XDP_NATIVE,
		[XDP_ATTACHED_SKB] = INTERFACE_XDP_GENERIC,
		[XDP_ATTACHED_HW] = INTERFACE_XDP_OFFLOAD,
		[XDP_ATTACHED_MULTI] = INTERFACE_XDP_SEVERAL,
	};
	static const __u16 ids[] = { IFLA_XDP_PROG_ID, IFLA_XDP_DRV_PROG_ID, IFLA_XDP_SKB_PROG_ID,
				     IFLA_XDP_HW_PROG_ID };
	const struct nlattr *mode = find(payload(xdp), payload_len(xdp), IFLA_XDP_ATTACHED);
	size_t i;

	if (mode && payload_len(mode) > 0 && *(const __u8 *)payload(mode) < ARRAY_SIZE(modes))
		interface->xdp = modes[*(const __u8 *)payload(mode)];
	for (i = 0; i < ARRAY_SIZE(ids) && !interface->prog_id; i++)
		interface->prog_id = read_u32(find(payload(xdp), payload_len(xdp), ids[i]));
}

static int ask_for_link(const struct nlmsghdr *request, struct interface *ret_interface)
{
	alignas(NLMSG_ALIGNTO) char buffer[BUFFER_SIZE];
	const struct nlmsghdr *answer = (const struct nlmsghdr *)buffer;
	const struct ifinfomsg *info = NLMSG_DATA(answer);
	struct interface interface = {};
	const struct nlattr *name, *xdp;
	const char *attrs;
	ssize_t len;

	len = ask(NETLINK_ROUTE, request, buffer);
	if (len < 0)
		return (int)len;
	if (answer->nlmsg_type != RTM_NEWLINK || (size_t)len < NLMSG_LENGTH(sizeof(*info)))
		return -EBADMSG;
	attrs = (const char *)info + NLMSG_ALIGN(sizeof(*info));
	len -= NLMSG_LENGTH(NLMSG_ALIGN(sizeof(*info)));
	interface.index = info->ifi_index;
	interface.type = info->ifi_type;
	name = find(attrs, (size_t)len, IFLA_IFNAME);
	if (name)
		snprintf(interface.name, sizeof(interface.name), "%.*s", (int)payload_len(name),
			 (const char *)payload(name));
	xdp = find(attrs, (size_t)len, IFLA_XDP);
	if (xdp)
		read_xdp(xdp, &interface);
	*ret_interface = interface;
	return 0;
}

int interface_find(const char *name, struct interface *ret_interface)
{
	const struct ifinfomsg info = { .ifi_family = AF_UNSPEC };
	struct request request;
	struct nlmsghdr *msg = request_init(&request, RTM_GETLINK, &info, sizeof(info));

	request_add(msg, IFLA_IFNAME, name, strlen(name) + 1);
	return ask_for_link(msg, ret_interface);
}

int interface_find_index(int index, struct interface *ret_interface)
{
	const struct ifinfomsg info = { .ifi_family = AF_UNSPEC, .ifi_index = index };
	struct request request;

	return ask_for_link(request_init(&request, RTM_GETLINK, &info, sizeof(info)),
			    ret_interface);
}

int interface_driver(const char *name, char ret_driver[INTERFACE_DRIVER_LEN])
{
	_cleanup_close_ int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct ethtool_drvinfo drvinfo = { .cmd = ETHTOOL_GDRVINFO };
	struct ifreq ifreq = { .ifr_data = (char *)&drvinfo };

	snprintf(ifreq.ifr_name, sizeof(ifreq.ifr_name), "%s", name);
	if (fd < 0 || ioctl(fd, SIOCETHTOOL, &ifreq) < 0)
		return -errno;
	snprintf(ret_driver, INTERFACE_DRIVER_LEN, "%.*s", (int)sizeof(drvinfo.driver) - 1,
		 drvinfo.driver);
	return 0;
}

/* Returns the number of the family "netdev", or -errno; -ENOENT: this kernel has none. */
static int netdev_family(void)
{
	const struct genlmsghdr header = { .cmd = CTRL_CMD_GETFAMILY, .version = 1 };
	alignas(NLMSG_ALIGNTO) char buffer[BUFFER_SIZE];
	const struct nlattr *id;
	struct request request;
	struct nlmsghdr *msg = request_init(&request, GENL_ID_CTRL, &header, sizeof(header));
	ssize_t len;
	__u16 family;

	request_add(msg, CTRL_ATTR_FAMILY_NAME, NETDEV_FAMILY, sizeof(NETDEV_FAMILY));
	len = ask(NETLINK_GENERIC, msg, buffer);
	if (len < (ssize_t)NLMSG_LENGTH(GENL_HDRLEN))
		return len < 0 ? (int)len : -EBADMSG;
	id = find(buffer + NLMSG_LENGTH(GENL_HDRLEN), (size_t)len - NLMSG_LENGTH(GENL_HDRLEN),
		  CTRL_ATTR_FAMILY_ID);
	if (!id || payload_len(id) < sizeof(family))
		return -EBADMSG;
	memcpy(&family, payload(id), sizeof(family));
	return family;
}

int interface_has_native(int index)
{
	const struct genlmsghdr header = { .cmd = NETDEV_DEV_GET, .version = 1 };
	alignas(NLMSG_ALIGNTO) char buffer[BUFFER_SIZE];
	const __u32 value = (__u32)index;
	const struct nlattr *features;
	struct request request;
	struct nlmsghdr *msg;
	__u64 bits;
	ssize_t len;
	int family = netdev_family();

	if (family < 0)
		return family;
	msg = request_init(&request, (__u16)family, &header, sizeof(header));
	request_add(msg, NETDEV_DEV_IFINDEX, &value, sizeof(value));
	len = ask(NETLINK_GENERIC, msg, buffer);
	if (len < (ssize_t)NLMSG_LENGTH(GENL_HDRLEN))
		return len < 0 ? (int)len : -EBADMSG;
	features = find(buffer + NLMSG_LENGTH(GENL_HDRLEN), (size_t)len - NLMSG_LENGTH(GENL_HDRLEN),
			NETDEV_DEV_XDP_FEATURES);
	if (!features || payload_len(features) < sizeof(bits))
		return -EBADMSG;
	memcpy(&bits, payload(features), sizeof(bits));
	return bits & NETDEV_XDP_BASIC;
}

int interface_watch(void)
{
	const struct sockaddr_nl address = { .nl_family = AF_NETLINK, .nl_groups = RTMGRP_LINK };
	_cleanup_close_ int fd =
		socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE);

	if (fd < 0 || bind(fd, (const struct sockaddr *)&address, sizeof(address)) < 0)
		return -errno;
	return TAKE_FD(fd);
}
