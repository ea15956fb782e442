// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * tproxyctl run: a command in a cgroup of its own, which is in scope of tproxy.
 *
 * The cgroup is a child of the one that the command would be in otherwise, so all limits and slices
 * of that one hold. For a user who may not make it, the user's systemd makes a scope. The name is
 * the same in both cases, tproxy-run-PID.scope, so that rules can name it before it exists.
 *
 * This process enters the cgroup and becomes the command by execve(2). There is nothing between the
 * caller and the command, so what concerns processes is as without tproxyctl: PID, parent, signals,
 * job control, exit status. run_reaper.c cleans up.
 *
 * If a cgroup above is in scope, the new one is too. Otherwise root attaches the programs to it
 * (run_attach.c). An ordinary user cannot: then the command is not run.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "commands.h"
#include "host/cgroup.h"
#include "host/cgroup_child.h"
#include "log.h"
#include "options.h"
#include "run_attach.h"
#include "run_reaper.h"
#include "run_unit.h"
#include "sink.h"
#include "state/probe.h"
#include "util.h"

/* As of env(1), timeout(1) and the shell. */
#define EXIT_NOT_RUN	    125
#define EXIT_NOT_EXECUTABLE 126
#define EXIT_NOT_FOUND	    127

static const struct ctl_usage usage = {
	.command = CTL_RUN,
	.synopsis = "[-p DIR] [--] COMMAND [ARGUMENT]...",
	.about =
		"Runs a command whose connections are redirected, with those of all processes that\n"
		"it starts. Exit status: that of the command; 125 if it was not run, 126 if it cannot\n"
		"be executed, 127 if it was not found.\n",
};

struct run {
	const struct ctl_options *options;
	struct cgroup caller; /* in which this process was started */
	struct cgroup cgroup; /* the command's */
	bool entered;
	int reaper_fd;
};

static void run_finish(struct run *run)
{
	cgroup_close(&run->caller);
	cgroup_close(&run->cgroup);
	util_closep(&run->reaper_fd);
}

/* Makes the cgroup below the caller's. Returns 0 or -errno, not logged. */
static int make_child(struct run *run, const char *name)
{
	int r = cgroup_child_make(&run->caller, name, &run->cgroup);

	if (r < 0)
		return r;
	/* An ordinary user may own a cgroup, and still lack the right to leave another one. */
	if (geteuid() == 0)
		return 0;
	r = cgroup_child_enter(&run->cgroup);
	if (r < 0) {
		cgroup_child_remove(run->cgroup.path);
		cgroup_close(&run->cgroup);
		return r;
	}
	run->entered = true;
	return 0;
}

/* Makes the cgroup, and lets the background process watch it. */
static int make_cgroup(struct run *run)
{
	char name[64];
	int r;

	r = cgroup_open_of(0, &run->caller);
	if (r < 0) {
		log_err("run: the cgroup of this process: %s", cgroup_strerror(r));
		return r;
	}
	snprintf(name, sizeof(name), "tproxy-run-%d.scope", getpid());
	r = make_child(run, name);
	if (geteuid() != 0 && (r == -EACCES || r == -EPERM || r == -EROFS)) {
		r = run_unit_enter(name, &run->cgroup);
		run->entered = r == 0;
		if (r == 0)
			r = run_reaper_watch(run->reaper_fd, run->cgroup.path, false);
		return r;
	}
	if (r < 0) {
		log_err("run: cannot make a cgroup in '%s': %s", run->caller.path, strerror(-r));
		return r;
	}
	r = run_reaper_watch(run->reaper_fd, run->cgroup.path, true);
	if (r < 0)
		cgroup_child_remove(run->cgroup.path);
	return r;
}

static int enter_cgroup(struct run *run)
{
	int r = run->entered ? 0 : cgroup_child_enter(&run->cgroup);

	if (r < 0)
		log_err("run: cannot enter '%s': %s", run->cgroup.path, strerror(-r));
	run->entered = r == 0;
	return r;
}

/* Sees to it that the command's connections are in scope. */
static int bring_into_scope(struct run *run)
{
	int r = probe_in_scope();

	if (r < 0) {
		log_err("run: cannot make a socket: %s", strerror(-r));
		return r;
	}
	if (r > 0)
		return 0;
	if (geteuid() == 0)
		return run_attach_pinned(run->options->pin_dir, &run->cgroup);
	log_err("run: '%s' is not in the scope of tproxy-load, and only root can change that; the command was not run",
		run->cgroup.path);
	return -EPERM;
}

/* Returns the exit status, if the command cannot be run. */
static int execute(const struct run *run)
{
	char **argv = run->options->argv;
	int error;

	fflush(NULL);
	sink_restore();
	execvp(argv[0], argv);
	error = errno;
	sink_init();
	log_err("run: cannot run '%s': %s", argv[0], strerror(error));
	return error == ENOENT ? EXIT_NOT_FOUND : EXIT_NOT_EXECUTABLE;
}

int ctl_run(int argc, char **argv)
{
	struct ctl_options options;
	_cleanup_(run_finish) struct run run = {
		.options = &options,
		.caller = CGROUP_NULL,
		.cgroup = CGROUP_NULL,
		.reaper_fd = -1,
	};
	int r = ctl_options_parse(argc, argv, &usage, &options);

	if (r)
		return r < 0 ? 2 : EXIT_SUCCESS;
	run.reaper_fd = run_reaper_start();
	if (run.reaper_fd < 0)
		return EXIT_NOT_RUN;
	r = make_cgroup(&run);
	if (r == 0)
		r = bring_into_scope(&run);
	if (r == 0)
		r = enter_cgroup(&run);
	return r < 0 ? EXIT_NOT_RUN : execute(&run);
}
