// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * tproxyctl run: the scope that the user's systemd makes, see run_unit.h.
 *
 * A login session is in a cgroup of root. The user's own cgroup is user@UID.service, and only root
 * may move a process from the session to there. The user's instance of systemd asks the system's
 * instance to do so. The user's instance listens on its own socket, so no message bus is needed; a
 * bus is tried next. systemd removes the scope when it is empty.
 */
#include "run_unit.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "config.h"
#include "host/cgroup.h"
#include "log.h"
#include "util.h"

#if HAVE_LIBSYSTEMD
#include <systemd/sd-bus.h>

#define ANSWER_TIMEOUT_US 10000000
/* Limit of the wait for systemd, which moves the process after its answer. */
#define MOVE_TIMEOUT_MS 10000
#define MOVE_POLL_MS	5

static int connect_directly(sd_bus **ret_bus)
{
	const char *directory = getenv("XDG_RUNTIME_DIR");
	char address[256];
	int n, r;

	/* In a bus address all other characters are %-escaped. */
	if (!directory || directory[strspn(directory, "/-_.0123456789abcdefghijklmnopqrstuvwxyz"
						      "ABCDEFGHIJKLMNOPQRSTUVWXYZ")])
		n = snprintf(address, sizeof(address), "unix:path=/run/user/%u/systemd/private",
			     (unsigned int)geteuid());
	else
		n = snprintf(address, sizeof(address), "unix:path=%s/systemd/private", directory);
	if (n < 0 || (size_t)n >= sizeof(address))
		return -ENAMETOOLONG;
	r = sd_bus_new(ret_bus);
	if (r >= 0)
		r = sd_bus_set_address(*ret_bus, address);
	return r < 0 ? r : sd_bus_start(*ret_bus);
}

static int add_properties(sd_bus_message *message)
{
	int r;

	r = sd_bus_message_open_container(message, 'a', "(sv)");
	if (r >= 0)
		r = sd_bus_message_append(message, "(sv)(sv)(sv)", "Description", "s",
					  "command of tproxyctl run", "CollectMode", "s",
					  "inactive-or-failed", "PIDs", "au", 1,
					  (uint32_t)getpid());
	if (r >= 0)
		r = sd_bus_message_close_container(message);
	return r;
}

static int ask(sd_bus *bus, const char *name, sd_bus_error *ret_error)
{
	sd_bus_message *message = NULL;
	int r;

	r = sd_bus_message_new_method_call(
		bus, &message, "org.freedesktop.systemd1", "/org/freedesktop/systemd1",
		"org.freedesktop.systemd1.Manager", "StartTransientUnit");
	if (r >= 0)
		r = sd_bus_message_append(message, "ss", name, "fail");
	if (r >= 0)
		r = add_properties(message);
	if (r >= 0)
		r = sd_bus_message_append(message, "a(sa(sv))", 0);
	if (r >= 0)
		r = sd_bus_call(bus, message, ANSWER_TIMEOUT_US, ret_error, NULL);
	sd_bus_message_unref(message);
	return r < 0 ? r : 0;
}

/* Waits until this process is in the scope. Returns -ETIMEDOUT if that does not happen. */
static int wait_moved(const char *name, struct cgroup *ret_cgroup)
{
	const struct timespec pause = { .tv_nsec = MOVE_POLL_MS * 1000000L };
	struct cgroup cgroup = CGROUP_NULL;
	int waited_ms, r;

	for (waited_ms = 0; waited_ms < MOVE_TIMEOUT_MS; waited_ms += MOVE_POLL_MS) {
		r = cgroup_open_of(0, &cgroup);
		if (r == 0 && strcmp(strrchr(cgroup.path, '/') + 1, name) == 0) {
			*ret_cgroup = cgroup;
			return 0;
		}
		cgroup_close(&cgroup);
		if (r < 0)
			return r;
		nanosleep(&pause, NULL);
	}
	return -ETIMEDOUT;
}

int run_unit_enter(const char *name, struct cgroup *ret_cgroup)
{
	sd_bus_error error = SD_BUS_ERROR_NULL;
	sd_bus *bus = NULL;
	int r;

	r = connect_directly(&bus);
	if (r < 0) {
		bus = sd_bus_unref(bus);
		r = sd_bus_open_user(&bus);
	}
	if (r < 0) {
		log_err("run: this user may not make a cgroup here, and has no systemd that would (%s); start this in a login session, or from a service of the user",
			strerror(-r));
		return r;
	}
	r = ask(bus, name, &error);
	if (r == 0)
		r = wait_moved(name, ret_cgroup);
	if (r < 0)
		log_err("run: the user's systemd has not made the scope '%s': %s", name,
			error.message ? error.message : strerror(-r));
	sd_bus_error_free(&error);
	sd_bus_flush_close_unref(bus);
	return r;
}

#else

int run_unit_enter(const char *name, struct cgroup *ret_cgroup)
{
	log_err("run: this user may not make a cgroup here, and tproxyctl was built without libsystemd, by which the user's systemd would make one");
	return -EOPNOTSUPP;
}

#endif
