// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * tproxyctl register: makes the listening sockets of a proxy that does not know tproxy (HAProxy,
 * Envoy, redsocks, mitmproxy) the relay of its network namespace. The proxy asks SO_ORIGINAL_DST as
 * if netfilter had redirected the connection, and connects to the server itself. Its own sockets
 * have no mark, so it must be in the relay cgroup. Otherwise its connections would be redirected to
 * itself.
 *
 * candidate.c duplicates the listening sockets and checks them. register_proxy() then marks them
 * (marks.c) and writes the entry of map_config; a failure undoes the marks. The PID of the entry is
 * the given one, a master's, because the next load forgets entries whose process has ended.
 * alive_ns is 0, so connect never takes the entry for stale. The proof that the proxy serves is the
 * mark, which ends with the socket.
 *
 * unregister_proxy() deletes the entry first, and the marks 100 ms later, so that connections that
 * are redirected already still find their destination.
 */
#include <bpf/bpf.h>
#include <errno.h>
#include <inttypes.h>
#include <json-c/json.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "candidate.h"
#include "commands.h"
#include "host/address.h"
#include "host/json.h"
#include "host/listeners.h"
#include "host/process.h"
#include "log.h"
#include "marks.h"
#include "monotonic.h"
#include "options.h"
#include "state/maps.h"
#include "state/policy.h"
#include "state/relays.h"
#include "tproxy_abi.h"
#include "util.h"

/* How long a connection that is redirected already may take to find the mark. */
#define UNMARK_DELAY_US 100000

static const struct ctl_usage usage = {
	.command = CTL_REGISTER,
	.synopsis = "[-p DIR] [--json] --pid PID [--port PORT]...\n"
		    "       tproxyctl register [-p DIR] [--json] --remove --pid PID",
	.about = "Makes a running proxy, such as HAProxy or redsocks, the relay of its network\n"
		 "namespace: connections are redirected to its listening TCP sockets, and it asks\n"
		 "SO_ORIGINAL_DST. It must be in the relay cgroup. After it has been restarted or\n"
		 "reloaded, run this again.\n",
};

struct job {
	const struct ctl_options *options;
	int config_fd, marks_fd;
	struct candidate candidate;
};

static void job_finish(struct job *job)
{
	util_closep(&job->config_fd);
	util_closep(&job->marks_fd);
	candidate_finish(&job->candidate);
}

/* Opens the maps and reads the policy. Returns 0 or -errno, logged. */
static int open_pins(struct job *job)
{
	const char *dir = job->options->pin_dir;
	struct tproxy_policy policy;
	int r;

	r = maps_check_loaded(dir);
	if (r < 0)
		return r;
	r = policy_read_pinned(dir, &policy);
	if (r < 0)
		return maps_log_error(dir, PINNED_POLICY, r);
	job->candidate.relay_cgroup_id = policy.relay_cgroup_id;
	r = maps_open(dir, PINNED_CONFIG, /* writable= */ true, &job->config_fd);
	if (r == 0)
		r = maps_open(dir, PINNED_MARKS, /* writable= */ true, &job->marks_fd);
	return r;
}

static bool is_port_of(const struct tproxy_relay *relay, const struct listening_socket *l)
{
	int family;
	__u32 i;

	for (family = 0; family < _TPROXY_FAMILY_MAX; family++) {
		for (i = 0; i < relay->listen[family].n_ports && i < TPROXY_PORTS_MAX; i++) {
			const struct tproxy_endpoint ep =
				address_of_listen(&relay->listen[family], i);

			if (listeners_takes(l, &ep))
				return true;
		}
	}
	return false;
}

/*
 * Returns true if these sockets are a tproxy-relay's, which maintains its entry itself. Its
 * supervisor, which never accepts, holds the same sockets, and is recognised by their marks.
 */
static bool registers_itself(const struct job *job, const struct tproxy_relay *relay)
{
	size_t i;

	if (!relay->alive_ns)
		return false;
	for (i = 0; i < job->candidate.listeners.n; i++) {
		const struct listening_socket *l = &job->candidate.listeners.list[i];
		struct tproxy_mark mark = {};

		if ((pid_t)relay->pid == l->pid)
			return true;
		if (bpf_map_lookup_elem(job->marks_fd, &l->fd, &mark) == 0 && mark.flags &&
		    is_port_of(relay, l))
			return true;
	}
	return (pid_t)relay->pid == job->options->pid;
}

/*
 * Returns true if the process runs tproxy-relay. It may have no entry, because it drains or was
 * replaced by another relay.
 */
static bool is_tproxy_relay(pid_t pid)
{
	static const char name[] = "tproxy-relay";
	char link[64], path[PATH_MAX];
	const char *base;
	ssize_t len;

	snprintf(link, sizeof(link), "/proc/%d/exe", pid);
	len = readlink(link, path, sizeof(path) - 1);
	if (len < 0)
		return false;
	path[len] = '\0';
	base = strrchr(path, '/');
	/* The link of an upgraded program ends with "tproxy-relay (deleted)". */
	return base && strncmp(base + 1, name, strlen(name)) == 0 &&
	       strchr(" ", base[1 + strlen(name)]);
}

static int refuse_relay(const struct job *job)
{
	log_err("process %d is a tproxy-relay or its supervisor, which registers itself",
		job->options->pid);
	return -EEXIST;
}

/*
 * Marks all sockets and writes the entry, or leaves everything as it was. Returns 0 or -errno,
 * logged.
 */
static int mark_and_write(const struct job *job, const struct tproxy_relay *relay)
{
	const struct listening_socket *list = job->candidate.listeners.list;
	_cleanup_free_ __u32 *before = calloc(job->candidate.listeners.n, sizeof(*before));
	size_t n = 0;
	int r = 0;

	if (!before) {
		log_err("out of memory");
		return -ENOMEM;
	}
	while (r == 0 && n < job->candidate.listeners.n) {
		r = marks_set(job->marks_fd, job->options->pin_dir, &list[n], &before[n]);
		n++;
	}
	if (r == 0) {
		r = bpf_map_update_elem(job->config_fd, &list[0].netns_cookie, relay, BPF_ANY);
		if (r == -E2BIG)
			log_err("cannot register: too many network namespaces have relays; 'tproxy-load' removes the entries of dead ones");
		else if (r < 0)
			log_err("cannot register in '%s/map_config': %s", job->options->pin_dir,
				strerror(-r));
	}
	if (r < 0) {
		while (n-- > 0)
			marks_restore(job->marks_fd, &list[n], before[n]);
	}
	return r;
}

static void print_ports(const struct tproxy_listen *listen)
{
	char text[ADDRESS_ENDPOINT_LEN];
	__u32 i;

	for (i = 0; i < listen->n_ports; i++) {
		const struct tproxy_endpoint ep = address_of_listen(listen, i);

		printf(" %s", address_format_endpoint(&ep, text));
	}
}

/* @replaced: PID of the relay that is replaced, 0 if none. */
static void print_registered(const struct job *job, const struct tproxy_relay *relay,
			     __u32 replaced)
{
	const uint64_t cookie = job->candidate.listeners.list[0].netns_cookie;
	_cleanup_(json_put) struct json_object *root = json_new_document();

	if (!job->options->json) {
		printf("registered pid %u, uid %u, as the relay of network namespace %" PRIu64 ":",
		       relay->pid, relay->uid, cookie);
		print_ports(&relay->listen[TPROXY_INET]);
		print_ports(&relay->listen[TPROXY_INET6]);
		if (replaced)
			printf("; it replaces relay %u", replaced);
		printf("\n");
		return;
	}
	json_add_string(root, "pin_dir", job->options->pin_dir);
	json_add_number(root, "netns_cookie", cookie);
	json_add_number(root, "pid", relay->pid);
	json_add_number(root, "uid", relay->uid);
	json_add_listen(root, "listen", &relay->listen[TPROXY_INET]);
	json_add_listen(root, "listen6", &relay->listen[TPROXY_INET6]);
	if (replaced)
		json_add_number(root, "replaced", replaced);
	json_print(root);
}

/* Registers the proxy. Returns 0 or -errno, logged. */
static int register_proxy(struct job *job)
{
	struct tproxy_relay relay = { .pid = (__u32)job->options->pid }, other = {};
	int r;

	if (is_tproxy_relay(job->options->pid))
		return refuse_relay(job);
	r = candidate_open(&job->candidate);
	if (r < 0)
		return r;
	memcpy(relay.listen, job->candidate.listen, sizeof(relay.listen));
	if (bpf_map_lookup_elem(job->config_fd, &job->candidate.listeners.list[0].netns_cookie,
				&other) < 0)
		other.pid = 0;
	if (other.pid && registers_itself(job, &other))
		return refuse_relay(job);
	r = process_uid(job->options->pid, &relay.uid);
	if (r < 0) {
		log_err("process %d does not exist", job->options->pid);
		return r;
	}
	relay.registered_ns = monotonic_kernel_ns();
	r = mark_and_write(job, &relay);
	if (r == 0)
		print_registered(job, &relay, other.pid == relay.pid ? 0 : other.pid);
	return r;
}

/* Removes the marks of the sockets of an entry. Marks of closed sockets have gone with them. */
static void unmark(struct job *job, __u64 cookie, const struct tproxy_relay *relay)
{
	size_t i, n;
	int family;

	for (family = 0; family < _TPROXY_FAMILY_MAX; family++) {
		_cleanup_(listeners_finish) struct listeners own = {};

		n = relay->listen[family].n_ports;
		if (n == 0 || n > TPROXY_PORTS_MAX ||
		    listeners_dup(job->options->pid, relay->listen[family].ports, n, &own) < 0)
			continue;
		for (i = 0; i < own.n; i++) {
			if (own.list[i].netns_cookie == cookie)
				marks_restore(job->marks_fd, &own.list[i], 0);
		}
	}
}

/* Removes all registrations of the process. Returns 0 or -errno, logged. */
static int unregister_proxy(struct job *job)
{
	_cleanup_(json_put) struct json_object *root = json_new_document();
	struct json_object *cookies = json_object_new_array();
	_cleanup_free_ struct relays_entry *list = NULL;
	size_t n = 0, i;
	int r;

	json_add_string(root, "pin_dir", job->options->pin_dir);
	json_add_number(root, "pid", (uint64_t)job->options->pid);
	json_object_object_add(root, "removed", cookies);
	r = relays_read(job->config_fd, &list, &n);
	if (r < 0)
		return maps_log_error(job->options->pin_dir, PINNED_CONFIG, r);
	for (i = 0; i < n; i++) {
		const __u64 cookie = list[i].netns_cookie;

		if (list[i].relay.pid != (__u32)job->options->pid)
			continue;
		if (list[i].relay.alive_ns) {
			log_err("process %d is a tproxy-relay, which registers itself; stop it instead",
				job->options->pid);
			return -EEXIST;
		}
		bpf_map_delete_elem(job->config_fd, &cookie);
		usleep(UNMARK_DELAY_US);
		unmark(job, cookie, &list[i].relay);
		json_object_array_add(cookies, json_object_new_uint64(cookie));
	}
	if (json_object_array_length(cookies) == 0) {
		log_err("process %d is not registered; see 'tproxyctl status'", job->options->pid);
		return -ENOENT;
	}
	if (job->options->json)
		json_print(root);
	else
		printf("removed the registration of pid %d\n", job->options->pid);
	return 0;
}

int ctl_register(int argc, char **argv)
{
	struct ctl_options options;
	_cleanup_(job_finish) struct job job = {
		.options = &options,
		.candidate.options = &options,
		.config_fd = -1,
		.marks_fd = -1,
	};
	int r;

	r = ctl_options_parse(argc, argv, &usage, &options);
	if (r)
		return r < 0 ? 2 : EXIT_SUCCESS;
	if (geteuid() != 0) {
		log_err("register must be run by root, because it duplicates sockets of another process");
		return EXIT_FAILURE;
	}
	if (open_pins(&job) < 0)
		return EXIT_FAILURE;
	r = options.remove ? unregister_proxy(&job) : register_proxy(&job);
	return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
