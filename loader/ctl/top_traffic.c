// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* tproxyctl top: traffic of cgroups. See top_traffic.h. */
#include "top_traffic.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "filter.h"
#include "host/cgroup.h"
#include "host/names.h"
#include "log.h"
#include "monotonic.h"
#include "options.h"
#include "state/maps.h"
#include "state/target_list.h"
#include "state/traffic.h"
#include "top_state.h"
#include "tproxy_abi.h"
#include "util.h"

/* --- the process that ends the counting */

/*
 * Switches counting on, tells the caller what went wrong, or nothing, and a NUL, and switches it
 * off when the caller has ended. stderr is the socket, so the messages of all functions go there.
 */
_Noreturn static void guard(const char *pin_dir, int fd)
{
	static const int ignored[] = { SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGPIPE };
	const int null = open("/dev/null", O_RDWR);
	sigset_t none;
	size_t i;
	char end;

	setsid();
	for (i = 0; i < ARRAY_SIZE(ignored); i++)
		signal(ignored[i], SIG_IGN);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	dup2(null, STDIN_FILENO);
	dup2(null, STDOUT_FILENO);
	dup2(fd, STDERR_FILENO);
	log_init("top", LOG_LEVEL_ERR);
	if (traffic_set_for_now(pin_dir, true) < 0 || write(fd, "", 1) != 1)
		_exit(EXIT_FAILURE);
	dup2(null, STDERR_FILENO);
	while (read(fd, &end, 1) > 0)
		;
	traffic_set_for_now(pin_dir, false);
	_exit(EXIT_SUCCESS);
}

/* Reads what the process says, until the NUL or the end. Returns false if counting is not on. */
static bool hear_guard(int fd, char *text, size_t size)
{
	size_t len = 0;
	ssize_t n = 0;

	while (len < size - 1 && (n = read(fd, text + len, 1)) == 1 && text[len])
		len++;
	text[len] = '\0';
	return n == 1 && len < size - 1;
}

static void end_guard(struct top_traffic *t)
{
	if (!t->guard)
		return;
	close(t->guard_fd);
	while (waitpid(t->guard, NULL, 0) < 0 && errno == EINTR)
		;
	t->guard = 0;
}

/* Returns 0, or -errno with a note. */
static int start_guard(struct top_traffic *t, struct top *top, const char *pin_dir)
{
	char text[sizeof(top->note) - 32], *line;
	int pair[2], r;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return -errno;
	t->guard = fork();
	if (t->guard == 0) {
		close(pair[0]);
		guard(pin_dir, pair[1]);
	}
	r = -errno;
	close(pair[1]);
	t->guard_fd = pair[0];
	if (t->guard < 0) {
		t->guard = 0;
		close(pair[0]);
		return r;
	}
	if (hear_guard(pair[0], text, sizeof(text)))
		return 0;
	end_guard(t);
	/* The first line, without the name of the program or the level before it. */
	text[strcspn(text, "\n")] = '\0';
	line = *text == '<' ? strchr(text, '>') : strstr(text, ": ");
	snprintf(top->note, sizeof(top->note), "traffic is not counted: %s",
		 line ? line + (*line == '>' ? 1 : 2) : text);
	return -EPERM;
}

/*
 * Another top that ends may have switched counting off. If it was killed together with its guard,
 * counting is on for now, and only the end of another guard switches it off. So each top that needs
 * counts has a guard, also if they are on.
 */
static int need_counts(struct top_traffic *t, struct top *top, const char *pin_dir)
{
	const enum traffic_state state = traffic_state(pin_dir);
	int r;

	if (state == TRAFFIC_STAYS || (state == TRAFFIC_FOR_NOW && t->guard))
		return 0;
	end_guard(t);
	r = start_guard(t, top, pin_dir);
	if (r < 0 && !*top->note)
		snprintf(top->note, sizeof(top->note), "traffic is not counted: %s", strerror(-r));
	return r;
}

/* --- samples */

struct targets {
	struct tproxy_target *list;
	size_t n;
};

struct sampling {
	struct top *top;
	struct top_traffic *traffic;
	const struct conn_filter *filter;
	struct targets targets;
};

static bool is_within_targets(const struct targets *targets, const char *path)
{
	const struct cgroup cgroup = { .path = (char *)path };
	size_t i;

	for (i = 0; i < targets->n; i++) {
		const struct cgroup target = { .path = targets->list[i].path };

		if (targets->list[i].flags != TPROXY_TARGET_XDP &&
		    cgroup_is_within(&cgroup, &target))
			return true;
	}
	return false;
}

/*
 * Returns the ids of the cgroups above a cgroup, as far as they are in a target, the nearest first,
 * each followed by a blank. A callback of the cache.
 */
static char *look_up_ancestors(uint64_t id, const void *hint)
{
	_cleanup_free_ char *path = names_cgroup(id);
	char text[TPROXY_CGROUP_LEVELS_MAX * 21 + 1] = "", *slash;
	size_t len = 0;

	while (path && *path == '/' && (slash = strrchr(path, '/')) != path) {
		_cleanup_(cgroup_close) struct cgroup cgroup = CGROUP_NULL;

		*slash = '\0';
		if (!is_within_targets(hint, path) || cgroup_open(path, &cgroup) < 0 ||
		    len + 21 >= sizeof(text))
			break;
		len += (size_t)snprintf(text + len, sizeof(text) - len, "%" PRIu64 " ", cgroup.id);
	}
	return strdup(text);
}

static int add_to_line(struct sampling *s, uint64_t id, uint64_t line_id, unsigned int steps,
		       const struct top_amount *amount)
{
	const struct conn_row row = { .cgroup_id = line_id };

	if (!filter_matches(s->filter, &row))
		return 0;
	return top_model_add_traffic(s->top->model, id, line_id, steps, amount);
}

/* A callback of traffic_read(). */
static int add_cgroup(uint64_t id, const struct tproxy_traffic *traffic, void *data)
{
	const struct top_amount amount = {
		.tx = traffic->bytes_out,
		.rx = traffic->bytes_in,
		.tx_packets = traffic->packets_out,
		.rx_packets = traffic->packets_in,
	};
	struct sampling *s = data;
	unsigned int steps = 0;
	const char *next;
	uint64_t above;
	char *end;
	int r;

	if (!id && !amount.tx_packets && !amount.rx_packets)
		return 0;
	r = add_to_line(s, id, id, steps, &amount);
	next = id ? name_cache_get(&s->traffic->ancestors, id, &s->targets) : "";
	while (r == 0 && (above = strtoull(next, &end, 10)) && end != next) {
		r = add_to_line(s, id, above, ++steps, &amount);
		next = end;
	}
	return r;
}

int top_traffic_sample(struct top *top, struct top_traffic *traffic,
		       const struct ctl_options *options)
{
	const char *pin_dir = options->pin_dir;
	struct sampling s = { .top = top, .traffic = traffic, .filter = &options->filter };
	char why[MAPS_ERROR_LEN];
	int r;

	name_cache_trim(&traffic->ancestors);
	top->note[0] = '\0';
	top->table.has_bytes = true;
	r = need_counts(traffic, top, pin_dir);
	if (r < 0)
		return r;
	top_model_begin(top->model);
	r = target_list_read_pinned(pin_dir, &s.targets.list, &s.targets.n);
	if (r == 0)
		r = traffic_read(pin_dir, add_cgroup, &s);
	if (r == 0)
		r = top_model_end(top->model, monotonic_kernel_ns() / 1000000);
	free(s.targets.list);
	if (r < 0)
		snprintf(top->note, sizeof(top->note), "cannot read the traffic: %s",
			 maps_strerror(pin_dir, pinned_maps[PINNED_TRAFFIC].name, r, why));
	return r;
}

void top_traffic_init(struct top_traffic *traffic)
{
	*traffic = (struct top_traffic){ .ancestors = { .lookup = look_up_ancestors } };
}

void top_traffic_finish(struct top_traffic *traffic)
{
	end_guard(traffic);
	name_cache_finish(&traffic->ancestors);
}
