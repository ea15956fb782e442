// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * tproxyctl run: a command in a cgroup of its own, which is in scope of tproxy.
 *
 * The cgroup is a child of the cgroup in which tproxyctl was started, so the limits and slices of
 * the parent apply. If the user may not make a cgroup there, the user's systemd makes a scope. Both
 * are named tproxy-run-PID.scope, so that rules can name them before they exist.
 *
 * This process enters the cgroup and becomes the command by execve(2). No process stands between
 * the caller and the command, so PID, parent, signals, job control and exit status are as without
 * tproxyctl. run_reaper.c cleans up. With --write-rules this process waits for the command
 * (run_wait.c) instead, because the caller reads the rules next.
 *
 * If a cgroup above is in scope, the new cgroup is too. Otherwise root attaches programs to it
 * (run_attach.c); for an ordinary user the command is not run. Rules for this command alone are an
 * instance of the kernel half, attached to this cgroup.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "commands.h"
#include "host/cgroup.h"
#include "host/cgroup_child.h"
#include "learned.h"
#include "load/instance.h"
#include "log.h"
#include "options.h"
#include "rules/rules.h"
#include "run_attach.h"
#include "run_events.h"
#include "run_file.h"
#include "run_reaper.h"
#include "run_unit.h"
#include "run_wait.h"
#include "sink.h"
#include "state/probe.h"
#include "tproxy_abi.h"
#include "util.h"

/* The exit statuses that env(1), timeout(1) and the shell use. */
#define EXIT_NOT_RUN	    125
#define EXIT_NOT_EXECUTABLE 126
#define EXIT_NOT_FOUND	    127

/* Limit of the time that connections may take to end after the command has closed them. */
#define GRACE_MS 1000
#define PAUSE_MS 10

/* An empty cgroup of this age is abandoned, see remove_old(). */
#define OLD_S 60

static const struct ctl_usage usage = {
	.command = CTL_RUN,
	.synopsis = "[OPTION]... [--] COMMAND [ARGUMENT]...",
	.about =
		"Runs a command, and redirects its connections and those of all processes that it\n"
		"starts. Exit status: that of the command; 125 if it was not run, 126 if it cannot be\n"
		"executed, 127 if it was not found.\n",
};

struct run {
	const struct ctl_options *options;
	struct cgroup caller; /* in which this process was started */
	struct cgroup cgroup; /* the command's */
	bool entered;
	int reaper_fd;
	struct rules_compiled *rules; /* owned; NULL: none of its own */
	struct instance instance;
};

static void run_finish(struct run *run)
{
	cgroup_close(&run->caller);
	cgroup_close(&run->cgroup);
	util_closep(&run->reaper_fd);
	instance_close(&run->instance);
	if (run->rules)
		rules_compiled_finish(run->rules);
	free(run->rules);
}

static int open_caller(struct run *run)
{
	int r = cgroup_open_of(0, &run->caller);

	if (r < 0)
		log_err("run: the cgroup of this process: %s", access("/proc/self", F_OK) < 0
								       ? "/proc is not mounted"
								       : cgroup_strerror(r));
	return r;
}

/* Reads and checks the files that the options name, before anything is created. */
static int prepare(struct run *run)
{
	const struct ctl_options *o = run->options;
	int r;

	if (!run_attach_wants_rules(o))
		return 0;
	if (geteuid() != 0) {
		log_err("run: %s is for root, because it loads BPF programs; the rules of the host can name 'cgroup name:tproxy-run-*'",
			*o->rules    ? "--rules"
			: *o->via    ? "--via"
			: o->observe ? "--observe"
				     : "--fail-closed");
		return -EPERM;
	}
	run->rules = calloc(1, sizeof(*run->rules));
	if (!run->rules) {
		log_err("out of memory");
		return -ENOMEM;
	}
	r = run_attach_read_rules(o, &run->caller, run->rules);
	return r < 0 || !*o->write_rules ? r : run_file_check(o->write_rules);
}

/* Makes the cgroup below the caller's. Returns 0 or -errno, not logged. */
static int make_child(struct run *run, const char *name)
{
	int r = cgroup_child_make(&run->caller, name, &run->cgroup);

	if (r < 0)
		return r;
	/*
	 * An ordinary user may own this cgroup, and still lack the permission to leave the current
	 * one.
	 */
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

/* True if the cgroup is older than any command takes to enter its own. */
static bool is_old(int dir_fd, const char *name)
{
	struct stat st;

	return fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
	       st.st_mtime < time(NULL) - OLD_S;
}

/*
 * Removes empty cgroups of earlier commands whose background process was killed. Only the age tells
 * them from the cgroup that a command is about to enter: the PID in the name may belong to another
 * PID namespace.
 */
static void remove_old(const struct cgroup *parent)
{
	_cleanup_closedir_ DIR *dir = opendir(parent->path);
	const struct dirent *entry;
	int pid;

	while (dir && (entry = readdir(dir))) {
		if (sscanf(entry->d_name, "tproxy-run-%d", &pid) == 1 &&
		    is_old(dirfd(dir), entry->d_name))
			unlinkat(dirfd(dir), entry->d_name, AT_REMOVEDIR);
	}
}

/* Returns why a cgroup cannot be made or entered. */
static const char *child_strerror(int r)
{
	if (r == -EAGAIN)
		return "the limit of cgroups is reached (cgroup.max.descendants, cgroup.max.depth)";
	if (r == -EOPNOTSUPP)
		return "the cgroup above it is threaded (cgroup.type), so no process can be in it";
	return strerror(-r);
}

/* Makes the cgroup, and lets the background process watch it. */
static int make_cgroup(struct run *run)
{
	char name[64];
	int r;

	remove_old(&run->caller);
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
		log_err("run: cannot make a cgroup in '%s': %s", run->caller.path,
			child_strerror(r));
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
		log_err("run: cannot enter '%s': %s", run->cgroup.path, child_strerror(r));
	run->entered = r == 0;
	return r;
}

/* Makes sure that the command's connections are in scope. */
static int bring_into_scope(struct run *run)
{
	int r = probe_in_scope();

	if (r < 0) {
		log_err("run: cannot make a socket: %s", strerror(-r));
		return r;
	}
	if (run->rules) {
		r = run_attach_rules(run->options, run->rules, &run->cgroup, r > 0, &run->instance);
		/* To write rules this process reads the events itself. */
		if (r == 0 && run->rules->has_observe && !*run->options->write_rules)
			r = run_reaper_observe(run->reaper_fd, &run->instance);
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

/* Becomes the command. Returns the exit status if that fails. */
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

static void on_event(const struct tproxy_event *event, void *data)
{
	learned_add(data, &event->conn);
}

static void on_open(const struct tproxy_observed *conn, void *data)
{
	learned_add(data, conn);
}

/* Runs the command as a child. Returns its status, or -1 if it could not be executed, logged. */
static int run_child(struct run *run, struct run_events *events)
{
	struct run_wait_before before;
	int failed[2], status;
	char byte;
	pid_t pid;

	if (pipe2(failed, O_CLOEXEC) < 0) {
		log_err("run: cannot make a pipe: %s", strerror(errno));
		return -1;
	}
	run_wait_prepare(&before);
	pid = fork();
	if (pid == 0) {
		run_wait_restore(&before);
		status = enter_cgroup(run) < 0 ? EXIT_NOT_RUN : execute(run);
		if (write(failed[1], "", 1) < 0)
			log_debug("cannot tell that the command was not executed");
		_exit(status);
	}
	if (pid < 0)
		log_err("run: cannot start a process: %s", strerror(errno));
	close(failed[1]);
	status = pid < 0 ? -1 : run_wait(pid, events);
	if (read(failed[0], &byte, 1) == 1)
		status = -1;
	close(failed[0]);
	return status;
}

/* What print_learned() prints. */
struct learned_file {
	const struct learned *learned;
	char *const *argv;
};

static void print_learned(FILE *f, const void *data)
{
	const struct learned_file *file = data;

	learned_print(f, file->learned, file->argv);
}

/* Reads the remaining events, and writes the rules. */
static int write_learned(struct run *run, struct run_events *events, struct learned *learned)
{
	const struct timespec pause = { .tv_nsec = PAUSE_MS * 1000000L };
	const char *file = run->options->write_rules;
	uint64_t lost;
	int i;

	for (i = 0; i < GRACE_MS / PAUSE_MS; i++) {
		if (run_events_open_connections(events, NULL, NULL) == 0)
			break;
		nanosleep(&pause, NULL);
	}
	run_events_read(events);
	run_events_open_connections(events, on_open, learned);
	lost = run_events_lost(events);
	if (lost > 0 || learned->no_memory) {
		log_err("run: '%s' was not written: %" PRIu64 " connections were not seen%s", file,
			lost, learned->no_memory ? ", and memory was short" : "");
		return -ENOBUFS;
	}
	if (!learned_sort(learned)) {
		log_err("run: '%s' was not written: %zu destinations are too many for one set of rules",
			file, learned->n);
		return -E2BIG;
	}
	return run_file_write(file, print_learned,
			      &(struct learned_file){ learned, run->options->argv });
}

/* Runs the command, and writes rules that allow its connections. Returns the exit status. */
static int learn(struct run *run)
{
	_cleanup_(run_events_close) struct run_events events = {};
	_cleanup_(learned_finish) struct learned learned = {};
	int status;

	if (run_events_open(&run->instance, on_event, &learned, &events) < 0)
		return EXIT_NOT_RUN;
	status = run_child(run, &events);
	if (status < 0 || write_learned(run, &events, &learned) < 0)
		return EXIT_NOT_RUN;
	return run_wait_end_as(status);
}

int ctl_run(int argc, char **argv)
{
	struct ctl_options options;
	_cleanup_(run_finish) struct run run = {
		.options = &options,
		.caller = CGROUP_NULL,
		.cgroup = CGROUP_NULL,
		.reaper_fd = -1,
		.instance = INSTANCE_NULL,
	};
	int r = ctl_options_parse(argc, argv, &usage, &options);

	if (r)
		return r < 0 ? 2 : EXIT_SUCCESS;
	if (open_caller(&run) < 0 || prepare(&run) < 0)
		return EXIT_NOT_RUN;
	run.reaper_fd = run_reaper_start();
	if (run.reaper_fd < 0)
		return EXIT_NOT_RUN;
	r = make_cgroup(&run);
	if (r == 0)
		r = bring_into_scope(&run);
	if (r < 0)
		return EXIT_NOT_RUN;
	if (*options.write_rules)
		return learn(&run);
	return enter_cgroup(&run) < 0 ? EXIT_NOT_RUN : execute(&run);
}
