// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * See registration.h, and tproxy_abi.h for the maps. registration_check() does these steps:
 *
 *   pins       map_config and map_marks are still those that were opened, by map id
 *   programs   getsockopt and sockops see query_fd and probe_fd; if not, the entry is deleted
 *   sweep      the kernel half removes entries whose socket is gone
 *   addresses  a family that clients cannot reach is not published
 *   entry      alive_ns is renewed; connect4 ignores a relay whose alive_ns is older than
 *              TPROXY_STALE_NS
 *
 * The entry is read and then written, without a lock against other relays. registered_ns decides
 * whose entry it is: the newest one's. A relay that was overwritten notices at its next check.
 * Times in the maps are those of monotonic_kernel_ns().
 */
#include "registration.h"

#include <assert.h>
#include <bpf/bpf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include "bpffs.h"
#include "config.h"
#include "ipv6.h"
#include "local.h"
#include "log.h"
#include "marks.h"
#include "monotonic.h"
#include "util.h"
#include "whoami.h"

/* 127.127.127.127, see bind_probe(). */
#define PROBE_ADDRESS 0x7f7f7f7fU

/* Limit of parts in one pass: more than a full map_socks has. */
#define SWEEP_PARTS_MAX 16
/*
 * Pause between two passes: SWEEP_PAUSE_FACTOR times the CPU time of the last pass (0.25 % of a
 * CPU), within these limits. A full map of 65,536 entries stays near the upper one.
 */
#define SWEEP_PAUSE_NS	    1900000000ULL
#define SWEEP_PAUSE_MOST_NS 30000000000ULL
#define SWEEP_PAUSE_FACTOR  400

static int log_open_error(const char *pin_dir, const char *name, int r)
{
	if (r == -ENOENT && strcmp(pin_dir, TPROXY_PIN_DIR) == 0)
		log_err("nothing is loaded in '%s'; run 'tproxy-load --cgroup PATH' or 'systemctl start tproxy-load' first",
			pin_dir);
	else if (r == -ENOENT)
		log_err("nothing is loaded in '%s'; run 'tproxy-load --cgroup PATH' with this --pin-dir first",
			pin_dir);
	else if (r == -EACCES || r == -EPERM)
		log_err("no permission to open '%s/%s'; run this as root or in the group of 'tproxy-load --relay-group'",
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
	log_err("'%s' holds ABI version %u, this is version %u; install the same version of tproxy-load and run 'tproxy-load --unload', and load again",
		pin_dir, version, TPROXY_ABI_VERSION);
	return -EPROTO;
}

/* SO_NETNS_COOKIE exists since 5.14. */
static int read_netns_cookie(uint64_t *ret_cookie)
{
	_cleanup_close_ int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	socklen_t len = sizeof(*ret_cookie);

	if (fd < 0 || getsockopt(fd, SOL_SOCKET, SO_NETNS_COOKIE, ret_cookie, &len) < 0)
		return -errno;
	return 0;
}

/* Makes query_fd and probe_fd, in the cgroup in which the listeners will be made. */
static int make_own_sockets(struct registration *reg)
{
	int r = 0;

	reg->query_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	reg->probe_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (reg->query_fd < 0 || reg->probe_fd < 0)
		r = -errno;
	else
		r = marks_set(reg->marks_fd, reg->query_fd, TPROXY_MARK_SWEEP);
	/* is_heard() marks it too, but the relay may end before: watchers leave marked sockets out.
	 */
	if (r == 0)
		r = marks_set(reg->marks_fd, reg->probe_fd, TPROXY_MARK_LISTENER);
	if (r < 0)
		log_err("cannot mark a socket: %s", strerror(-r));
	return r;
}

int registration_open(struct registration *reg, const char *pin_dir)
{
	struct registration opened = REGISTRATION_NULL;
	const struct {
		enum pinned_map_id id;
		int *fd;
	} maps[] = {
		{ PINNED_CONFIG, &opened.config_fd },
		{ PINNED_MARKS, &opened.marks_fd },
		{ PINNED_FAILED, &opened.failed_fd },
	};
	size_t i;
	int r;

	r = check_abi(pin_dir);
	if (r < 0)
		return r;
	for (i = 0; i < ARRAY_SIZE(maps); i++) {
		r = bpffs_open_map(pin_dir, maps[i].id, /* writable= */ true, maps[i].fd);
		if (r < 0) {
			registration_close(&opened);
			return log_open_error(pin_dir, pinned_maps[maps[i].id].name, r);
		}
	}
	r = bpffs_map_id(opened.config_fd, &opened.config_id);
	if (r == 0)
		r = bpffs_map_id(opened.marks_fd, &opened.marks_id);
	if (r == 0)
		r = read_netns_cookie(&opened.netns_cookie);
	if (r < 0) {
		log_err("cannot read the ids of the maps or the network namespace: %s",
			strerror(-r));
		registration_close(&opened);
		return r;
	}
	r = make_own_sockets(&opened);
	if (r < 0) {
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
	util_closep(&reg->failed_fd);
	util_closep(&reg->query_fd);
	util_closep(&reg->probe_fd);
	reg->config_fd = reg->marks_fd = reg->failed_fd = reg->query_fd = reg->probe_fd = -1;
}

int registration_mark_listener(const struct registration *reg, int fd,
			       const struct registration_pair *pair)
{
	struct tproxy_mark mark = { .flags = TPROXY_MARK_LISTENER };

	if (pair) {
		mark.flags |= TPROXY_MARK_HONEST;
		if (pair->by_default)
			mark.flags |= TPROXY_MARK_HONEST_DEFAULT;
		mark.ring = pair->ring;
		mark.pair = pair->pair;
	}
	return bpf_map_update_elem(reg->marks_fd, &fd, &mark, BPF_ANY);
}

int registration_marks(const struct registration *reg, uint64_t error_memory_ms,
		       struct marks *ret_marks)
{
	struct marks marks = {
		.marks_fd = fcntl(reg->marks_fd, F_DUPFD_CLOEXEC, 0),
		.failed_fd = fcntl(reg->failed_fd, F_DUPFD_CLOEXEC, 0),
		.netns_cookie = reg->netns_cookie,
		.error_memory_ms = error_memory_ms,
	};
	int r = -errno;

	if (marks.marks_fd < 0 || marks.failed_fd < 0) {
		log_err("cannot duplicate a descriptor: %s", strerror(-r));
		marks_close(&marks);
		return r;
	}
	*ret_marks = marks;
	return 0;
}

/* True if the programs see fd with these flags. Tries three times: a call may lack memory. */
static bool is_seen(int fd, __u32 flags)
{
	struct tproxy_whoami who;
	int tries;

	for (tries = 0; tries < 3; tries++) {
		if (whoami_query(fd, &who) == 0)
			return (who.mark_flags & flags) == flags;
	}
	return false;
}

/*
 * Binds the probe to the first listener's port at PROBE_ADDRESS, so that it takes no port from
 * clients. If that fails, binds it to a free port of 127.0.0.1. If that fails too, probe_bound
 * stays false, and the next check tries again.
 */
static void bind_probe(struct registration *reg)
{
	const struct tproxy_listen *listen = &reg->listen[TPROXY_INET];
	struct sockaddr_in addr = {
		.sin_family = AF_INET,
		.sin_addr.s_addr = htonl(PROBE_ADDRESS),
		.sin_port = htons(listen->ports[0]),
	};

	reg->probe_bound = true;
	if (listen->n_ports &&
	    bind(reg->probe_fd, (const struct sockaddr *)&addr, sizeof(addr)) == 0)
		return;
	addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	addr.sin_port = 0;
	reg->probe_bound = bind(reg->probe_fd, (const struct sockaddr *)&addr, sizeof(addr)) == 0;
}

/*
 * True if getsockopt and sockops still see our sockets. Otherwise redirected connections would find
 * no original destination and be reset. A socket belongs to the cgroup in which it was made, so the
 * two sockets here are as old as the listeners: this process may have moved since. The probe
 * listens for a moment, and sockops marks it as seen. If the probe cannot listen, sockops counts as
 * present.
 */
static bool is_heard(struct registration *reg)
{
	bool heard;

	if (!is_seen(reg->query_fd, 0))
		return false;
	if (!reg->probe_bound)
		bind_probe(reg);
	if (!reg->probe_bound ||
	    marks_set(reg->marks_fd, reg->probe_fd, TPROXY_MARK_LISTENER) < 0 ||
	    listen(reg->probe_fd, 0) < 0)
		return true;
	heard = is_seen(reg->probe_fd, TPROXY_MARK_ATTACHED);
	/* The probe goes back to CLOSE and keeps its address. */
	shutdown(reg->probe_fd, SHUT_RDWR);
	return heard;
}

/* Clients reach a wildcard listener at loopback, so loopback is published for it. */
static void replace_wildcard(union sockaddr_any *addr)
{
	if (addr->sa.sa_family == AF_INET && addr->in.sin_addr.s_addr == htonl(INADDR_ANY))
		addr->in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	else if (addr->sa.sa_family == AF_INET6 && IN6_IS_ADDR_UNSPECIFIED(&addr->in6.sin6_addr))
		addr->in6.sin6_addr = in6addr_loopback;
}

bool registration_knows_listener(const struct registration *reg, int fd,
				 struct tproxy_mark *ret_mark)
{
	struct tproxy_mark mark;
	struct tproxy_whoami who;

	/* Marked in the map pinned now, and seen by programs that read this map. */
	if (bpf_map_lookup_elem(reg->marks_fd, &fd, &mark) < 0 ||
	    (mark.flags & TPROXY_MARK_READY) != TPROXY_MARK_READY || whoami_query(fd, &who) < 0 ||
	    (who.mark_flags & TPROXY_MARK_READY) != TPROXY_MARK_READY)
		return false;
	*ret_mark = mark;
	return true;
}

int registration_add_listener(struct registration *reg, int fd)
{
	union sockaddr_any addr = {};
	socklen_t len = sizeof(addr);
	struct tproxy_listen *listen;
	struct tproxy_whoami who;
	enum tproxy_family family;

	if (whoami_query(fd, &who) < 0 || !(who.mark_flags & TPROXY_MARK_ATTACHED)) {
		log_err("the programs of '%s' are not attached to this process's cgroup; start it in the --relay-cgroup of tproxy-load, or, if there is none, in a --cgroup",
			reg->pin_dir);
		return -ENOTCONN;
	}
	if (getsockname(fd, &addr.sa, &len) < 0) {
		log_err("cannot read the address of a listening socket: %m");
		return -EIO;
	}
	family = addr.sa.sa_family == AF_INET6 ? TPROXY_INET6 : TPROXY_INET;
	listen = &reg->listen[family];
	assert(listen->n_ports < TPROXY_PORTS_MAX);
	replace_wildcard(&addr);
	marks_address(listen->addr, &addr);
	listen->ports[listen->n_ports++] = ntohs(addr.in.sin_port);
	reg->pid = who.pid;
	reg->uid = who.uid;
	return (int)family;
}

union sockaddr_any registration_address(const struct registration *reg, enum tproxy_family family)
{
	const struct tproxy_listen *listen = &reg->listen[family];
	union sockaddr_any addr = {};

	addr.in.sin_port = htons(listen->ports[0]);
	if (family == TPROXY_INET6) {
		addr.sa.sa_family = AF_INET6;
		memcpy(&addr.in6.sin6_addr, listen->addr, sizeof(addr.in6.sin6_addr));
	} else {
		addr.sa.sa_family = AF_INET;
		memcpy(&addr.in.sin_addr, &listen->addr[12], sizeof(addr.in.sin_addr));
	}
	return addr;
}

/* Checks that our addresses are still on this host. If one has moved to another host, that host
 * would get the connections. */
static void look_for_addresses(struct registration *reg)
{
	char text[FORMAT_ENDPOINT_LEN];
	enum tproxy_family i;

	for (i = 0; i < _TPROXY_FAMILY_MAX; i++) {
		union sockaddr_any addr = registration_address(reg, i);
		bool away = reg->listen[i].n_ports && !local_is_reached(&addr);

		if (away == reg->away[i])
			continue;
		reg->away[i] = away;
		format_endpoint(&addr, text);
		if (away)
			log_warning(
				"clients do not reach %s: it is not an address of this host any more, lo is down, or another program at connect() changes it; no connection is redirected there until they do",
				text);
		else
			log_info("clients reach %s again", text);
	}
}

/*
 * Writes our entry to map_config, with alive_ns of now. before is our current entry, whose
 * strayed_ns is kept, or NULL. flags: BPF_ANY, BPF_EXIST or BPF_NOEXIST. Does not log.
 */
static int write_entry(const struct registration *reg, const struct tproxy_relay *before,
		       __u64 flags)
{
	struct tproxy_relay relay = {
		.registered_ns = reg->registered_ns,
		.alive_ns = monotonic_kernel_ns(),
		.pid = reg->pid,
		.uid = reg->uid,
		.strayed_ns = before ? before->strayed_ns : 0,
	};
	int i;

	for (i = 0; i < _TPROXY_FAMILY_MAX; i++) {
		if (!reg->away[i] && (i != TPROXY_INET6 || reg->offer6))
			relay.listen[i] = reg->listen[i];
	}
	return bpf_map_update_elem(reg->config_fd, &reg->netns_cookie, &relay, flags);
}

int registration_publish(struct registration *reg)
{
	int r;

	reg->registered_ns = monotonic_kernel_ns();
	reg->offer6 = ipv6_is_routed(/* otherwise= */ false);
	look_for_addresses(reg);
	r = write_entry(reg, NULL, BPF_ANY);
	if (r == -E2BIG)
		log_err("cannot register in '%s/map_config': too many network namespaces have relays; 'tproxy-load' removes the entries of dead ones",
			reg->pin_dir);
	else if (r < 0)
		log_err("cannot register in '%s/map_config': %s", reg->pin_dir, strerror(-r));
	return r;
}

static bool is_ours(const struct registration *reg, const struct tproxy_relay *relay)
{
	return relay->pid == reg->pid && relay->registered_ns == reg->registered_ns;
}

void registration_remove(struct registration *reg)
{
	struct tproxy_relay relay;

	if (reg->config_fd < 0 ||
	    bpf_map_lookup_elem(reg->config_fd, &reg->netns_cookie, &relay) < 0 ||
	    !is_ours(reg, &relay))
		return;
	/* A relay that registers between these two calls notices in registration_check(). */
	bpf_map_delete_elem(reg->config_fd, &reg->netns_cookie);
}

/*
 * Returns 0 if @map is pinned with this id, or cannot be examined; 1 if another map is pinned,
 * possibly of another version; -ENOENT if none is; -EACCES without permission.
 */
static int check_pin(const struct registration *reg, enum pinned_map_id map, uint32_t id)
{
	_cleanup_close_ int fd = -1;
	uint32_t id_now;
	int r;

	r = bpffs_open_map(reg->pin_dir, map, /* writable= */ true, &fd);
	if (r == -ENOENT || r == -EACCES)
		return r;
	if (r == -EPROTO)
		return 1;
	/* Any other error (EMFILE, for example) tells nothing about the pin: report no change. */
	return r == 0 && bpffs_map_id(fd, &id_now) == 0 && id_now != id;
}

bool registration_is_replaced(const struct registration *reg)
{
	_cleanup_close_ int fd = -1;
	struct tproxy_relay relay;
	int r;

	/* EACCES: an unload also takes back the search permission on the way to the pins. */
	r = bpffs_open_map(reg->pin_dir, PINNED_CONFIG, /* writable= */ true, &fd);
	if (r == -ENOENT || r == -EACCES)
		return true;
	r = bpf_map_lookup_elem(reg->config_fd, &reg->netns_cookie, &relay);
	return (r < 0 && errno == ENOENT) || (r == 0 && !is_ours(reg, &relay));
}

/* Returns GOOD, GONE, DENIED or REPLACED. */
static enum registration_state check_pins(const struct registration *reg)
{
	int r = check_pin(reg, PINNED_CONFIG, reg->config_id);
	int r_marks = check_pin(reg, PINNED_MARKS, reg->marks_id);

	if (r == -EACCES || r_marks == -EACCES)
		return REGISTRATION_DENIED;
	if (r < 0 || r_marks < 0)
		return REGISTRATION_GONE;
	return r > 0 || r_marks > 0 ? REGISTRATION_REPLACED : REGISTRATION_GOOD;
}

static enum registration_state renew(struct registration *reg, const struct tproxy_relay *before,
				     __u64 flags)
{
	reg->error = write_entry(reg, before, flags);
	/* Another process changed the entry since it was read: the next check decides. */
	if (reg->error == -EEXIST || reg->error == -ENOENT)
		return REGISTRATION_GOOD;
	return reg->error < 0 ? REGISTRATION_FAILED : REGISTRATION_GOOD;
}

static uint64_t thread_cpu_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

/*
 * Asks the kernel half, by a bind() that it fails, for a pass over the entries of this network
 * namespace. The pass removes entries whose socket is gone, one part for each bind(). EAGAIN: there
 * are more parts. The next pass comes two seconds later, or more after a long pass: a pass over
 * 10,000 live entries takes some 15 ms. Only CPU time counts: a thread that had to wait for the CPU
 * during a pass must not delay the next pass.
 */
static void sweep(struct registration *reg)
{
	const struct sockaddr_in nowhere = { .sin_family = AF_INET };
	uint64_t begun_ns = monotonic_kernel_ns(), cpu_ns, pause_ns;
	int parts = SWEEP_PARTS_MAX;

	if (begun_ns < reg->sweep_due_ns)
		return;
	cpu_ns = thread_cpu_ns();
	while (parts-- > 0 &&
	       bind(reg->query_fd, (const struct sockaddr *)&nowhere, sizeof(nowhere)) < 0 &&
	       errno == EAGAIN)
		;
	pause_ns = (thread_cpu_ns() - cpu_ns) * SWEEP_PAUSE_FACTOR;
	if (pause_ns < SWEEP_PAUSE_NS)
		pause_ns = SWEEP_PAUSE_NS;
	if (pause_ns > SWEEP_PAUSE_MOST_NS)
		pause_ns = SWEEP_PAUSE_MOST_NS;
	reg->sweep_due_ns = begun_ns + pause_ns;
}

enum registration_state registration_check(struct registration *reg)
{
	enum registration_state state;
	struct tproxy_relay relay;
	int r;

	state = check_pins(reg);
	if (state != REGISTRATION_GOOD)
		return state;
	if (!is_heard(reg)) {
		registration_remove(reg);
		return REGISTRATION_UNHEARD;
	}
	sweep(reg);
	look_for_addresses(reg);
	reg->offer6 = ipv6_is_routed(reg->offer6);
	r = bpf_map_lookup_elem(reg->config_fd, &reg->netns_cookie, &relay);
	if (r == 0 && is_ours(reg, &relay))
		return renew(reg, &relay, BPF_EXIST);
	if (r < 0 && r != -ENOENT) {
		/* The owner of the entry is unknown: leave the entry as it is. */
		reg->error = r;
		return REGISTRATION_FAILED;
	}
	/*
	 * The relay with the newest registered_ns owns the entry. If another relay registers
	 * between our lookup and our update, we overwrite its entry. At its next check it finds an
	 * entry with an older registered_ns and registers again. We take over the entry of a newer
	 * relay only if connect counted connections that did not reach it (unreachable > 0).
	 */
	if (r == 0 && relay.registered_ns >= reg->registered_ns) {
		if (relay.unreachable == 0)
			return REGISTRATION_OTHER;
		reg->registered_ns = monotonic_kernel_ns();
	}
	state = renew(reg, NULL, r == 0 ? BPF_EXIST : BPF_NOEXIST);
	if (reg->error == 0)
		log_info(
			"our entry in '%s/map_config' was missing, or replaced by a relay that does not serve; registered again",
			reg->pin_dir);
	return state;
}
