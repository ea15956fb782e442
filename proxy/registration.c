// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* See registration.h, and tproxy_abi.h for the maps. */
#include "registration.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include "bpffs.h"
#include "log.h"
#include "tproxy_abi.h"
#include "util.h"

static int log_open_error(const char *pin_dir, const char *name, int r)
{
	if (r == -ENOENT)
		log_err("nothing is loaded in '%s'; run 'tproxy-load' first", pin_dir);
	else if (r == -EACCES || r == -EPERM)
		log_err("'%s/%s' is not ours to open; run this as root or in the group that 'tproxy-load --relay-group' was given",
			pin_dir, name);
	else if (r == -EPROTO)
		log_err("'%s/%s' is not a map of this version of tproxy", pin_dir, name);
	else
		log_err("cannot open '%s/%s': %s", pin_dir, name, strerror(-r));
	return r;
}

static int check_abi(const char *pin_dir)
{
	uint32_t version;
	int r = bpffs_abi_version(pin_dir, &version);

	if (r < 0)
		return log_open_error(pin_dir, "map_policy", r);
	if (version == TPROXY_ABI_VERSION)
		return 0;
	log_err("'%s' holds ABI version %u, this is version %u; install the same version of tproxy-load and run 'tproxy-load --unload' and 'tproxy-load'",
		pin_dir, version, TPROXY_ABI_VERSION);
	return -EPROTO;
}

int registration_open(struct registration *reg, const char *pin_dir)
{
	struct registration opened = REGISTRATION_NULL;
	const struct {
		const char *name;
		uint32_t key_size, value_size;
		int *fd;
	} maps[] = {
		{ "map_config", sizeof(__u64), sizeof(struct tproxy_relay), &opened.config_fd },
		{ "map_marks", sizeof(int), sizeof(struct tproxy_mark), &opened.marks_fd },
	};
	size_t i;
	int r;

	r = check_abi(pin_dir);
	if (r < 0)
		return r;
	for (i = 0; i < ARRAY_SIZE(maps); i++) {
		r = bpffs_open_map(pin_dir, maps[i].name, maps[i].key_size, maps[i].value_size,
				   /* writable= */ true, maps[i].fd);
		if (r < 0) {
			registration_close(&opened);
			return log_open_error(pin_dir, maps[i].name, r);
		}
	}
	r = bpffs_map_id(opened.config_fd, &opened.config_id);
	if (r < 0) {
		log_err("cannot read the id of map_config: %s", strerror(-r));
		registration_close(&opened);
		return r;
	}
	opened.pin_dir = pin_dir;
	*reg = opened;
	return 0;
}

void registration_close(struct registration *reg)
{
	util_closep(&reg->config_fd);
	util_closep(&reg->marks_fd);
	reg->config_fd = reg->marks_fd = -1;
}

static int mark(int marks_fd, int fd, __u32 flags)
{
	const struct tproxy_mark value = { .flags = flags };

	return bpf_map_update_elem(marks_fd, &fd, &value, BPF_ANY);
}

int registration_mark_listener(const struct registration *reg, int fd)
{
	int r = mark(reg->marks_fd, fd, TPROXY_MARK_LISTENER);

	if (r < 0)
		log_err("cannot mark the listening socket: %s", strerror(-r));
	return r;
}

int registration_mark_upstream(int marks_fd, int fd)
{
	return mark(marks_fd, fd, TPROXY_MARK_UPSTREAM);
}

/* Asks our getsockopt program; -errno without it. */
static int whoami(int fd, struct tproxy_whoami *ret_whoami)
{
	socklen_t len = sizeof(*ret_whoami);

	if (getsockopt(fd, SOL_IP, TPROXY_SO_WHOAMI, ret_whoami, &len) < 0)
		return -errno;
	return len == sizeof(*ret_whoami) ? 0 : -EPROTO;
}

int registration_verify_listener(const struct registration *reg, int fd)
{
	struct tproxy_whoami who;

	if (whoami(fd, &who) < 0 || !(who.mark_flags & TPROXY_MARK_HOOKED)) {
		log_err("the programs of '%s' are not attached to this process's cgroup; start it in tproxy-load's --relay-cgroup, or without one in a --cgroup",
			reg->pin_dir);
		return -ENOTCONN;
	}
	return 0;
}

static void set_endpoint(struct tproxy_endpoint *ep, const struct sockaddr_in *addr)
{
	*ep = (struct tproxy_endpoint){
		.addr = { [10] = 0xff, [11] = 0xff },
		.port = ntohs(addr->sin_port),
	};
	memcpy(&ep->addr[12], &addr->sin_addr, sizeof(addr->sin_addr));
}

static __u64 now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (__u64)ts.tv_sec * 1000000000 + (__u64)ts.tv_nsec;
}

static int write_entry(struct registration *reg)
{
	struct tproxy_relay relay = { .registered_ns = now_ns(), .pid = reg->pid, .uid = reg->uid };
	int r;

	set_endpoint(&relay.listen[TPROXY_INET], &reg->listen);
	r = bpf_map_update_elem(reg->config_fd, &reg->netns_cookie, &relay, BPF_ANY);
	if (r < 0)
		log_err("cannot register in '%s/map_config': %s", reg->pin_dir,
			r == -E2BIG ? "too many network namespaces have relays" : strerror(-r));
	return r;
}

int registration_put(struct registration *reg, int listen_fd)
{
	socklen_t cookie_len = sizeof(reg->netns_cookie), addr_len = sizeof(reg->listen);
	struct tproxy_whoami who;
	int r;

	/* Since 5.14. */
	if (getsockopt(listen_fd, SOL_SOCKET, SO_NETNS_COOKIE, &reg->netns_cookie, &cookie_len) <
		    0 ||
	    getsockname(listen_fd, (struct sockaddr *)&reg->listen, &addr_len) < 0)
		r = -errno;
	else
		r = whoami(listen_fd, &who);
	if (r < 0) {
		log_err("cannot ask who and where we are: %s", strerror(-r));
		return r;
	}
	reg->pid = who.pid;
	reg->uid = who.uid;
	/* Clients reach a wildcard listener at loopback. */
	if (reg->listen.sin_addr.s_addr == htonl(INADDR_ANY))
		reg->listen.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	return write_entry(reg);
}

static bool is_ours(const struct registration *reg, const struct tproxy_relay *relay)
{
	struct tproxy_endpoint ep;

	set_endpoint(&ep, &reg->listen);
	return relay->pid == reg->pid && memcmp(&relay->listen[TPROXY_INET], &ep, sizeof(ep)) == 0;
}

void registration_remove(struct registration *reg)
{
	struct tproxy_relay relay;

	if (reg->config_fd < 0 ||
	    bpf_map_lookup_elem(reg->config_fd, &reg->netns_cookie, &relay) < 0 ||
	    !is_ours(reg, &relay))
		return;
	/* One that registers between these two calls finds out by registration_check(). */
	bpf_map_delete_elem(reg->config_fd, &reg->netns_cookie);
}

enum registration_state registration_check(struct registration *reg)
{
	struct tproxy_relay relay;
	_cleanup_close_ int fd = -1;
	uint32_t id;

	if (bpffs_open_map(reg->pin_dir, "map_config", sizeof(__u64), sizeof(struct tproxy_relay),
			   /* writable= */ true, &fd) < 0 ||
	    bpffs_map_id(fd, &id) < 0)
		return REGISTRATION_GONE;
	if (id != reg->config_id)
		return REGISTRATION_REPLACED;

	if (bpf_map_lookup_elem(reg->config_fd, &reg->netns_cookie, &relay) == 0) {
		if (is_ours(reg, &relay))
			return REGISTRATION_GOOD;
		/* Connections that missed it tell that the one who registered serves no more. */
		if (relay.missed == 0)
			return REGISTRATION_OTHER;
	}
	log_info(
		"our entry in '%s/map_config' is gone, or that of a relay that does not serve; registering again",
		reg->pin_dir);
	return write_entry(reg) < 0 ? REGISTRATION_GONE : REGISTRATION_GOOD;
}
