/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * tproxyctl doctor: findings, and the checks that make them. A check changes nothing, attaches
 * nothing, pins nothing, and logs nothing. The one exception is doctor_pinned(), which removes
 * entries without a socket, as status does.
 */
#ifndef TPROXY_DOCTOR_H
#define TPROXY_DOCTOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "util.h"

struct json_object;
struct tproxy_rules;

enum doctor_level {
	DOCTOR_OK,
	DOCTOR_INFO,	/* worth knowing */
	DOCTOR_WARNING, /* works, but perhaps not as meant */
	DOCTOR_ERROR,	/* does not work */
	_DOCTOR_LEVEL_MAX,
};

struct doctor {
	const char *pin_dir;
	const char *cgroup; /* --cgroup, or NULL */
	struct json_object *findings;
	unsigned int n[_DOCTOR_LEVEL_MAX];
	/* Set by one check for those after it. */
	bool privileged; /* the kernel lets us probe */
	bool has_cgroup2;
	bool read_only; /* the bpffs is read-only: the kernel opens no links */
	bool loaded;	/* by a loader of our ABI version */
	bool fail_closed;
	uint64_t relay_cgroup_id; /* from the policy; 0: none */
	gid_t relay_gid;	  /* group of the pins; 0: only root may use them */
};

/* Adds a finding. @check is one word for the subject. Unprintable bytes are escaped. */
void doctor_add(struct doctor *d, enum doctor_level level, const char *check, const char *fmt, ...)
	_printf_(4, 5);

/* Adds to the last finding the command that fixes it, or what to do where there is no command. */
void doctor_fix(struct doctor *d, const char *fmt, ...) _printf_(2, 3);

/* What to do, in doctor_fix(). The units of systemd serve the default pin directory only. */
const char *doctor_fix_load(const struct doctor *d);
const char *doctor_fix_relay(const struct doctor *d);
/* Adds to the last finding how to run tproxy-load --follow. */
void doctor_fix_follow(struct doctor *d);
/* Adds to the last finding: @before, and the command that loads the rules from their file. */
void doctor_fix_rules(struct doctor *d, const struct tproxy_rules *rules, const char *before);

/* A limit of open files below this is a finding. A connection takes two, and some are reserved. */
#define DOCTOR_NOFILE_FEW 4096

/* The checks. ctl/doctor.c runs them in this order. */
void doctor_system(struct doctor *d);
void doctor_kernel(struct doctor *d);
void doctor_cgroup2(struct doctor *d);
void doctor_bpffs(struct doctor *d);
void doctor_pinned(struct doctor *d);
void doctor_scopes(struct doctor *d);
void doctor_rules(struct doctor *d);
void doctor_block(struct doctor *d);
void doctor_attached(struct doctor *d);
void doctor_xdp(struct doctor *d);
void doctor_policies(struct doctor *d);
void doctor_relay(struct doctor *d);
void doctor_honest(struct doctor *d);
void doctor_upstreams(struct doctor *d);
void doctor_waiting(struct doctor *d);
void doctor_usage(struct doctor *d);

/*
 * Reads the first line of a file below /proc or /sys, without its newline. Returns 0 or -errno;
 * -ENODATA: the file is empty.
 */
int doctor_read_line(const char *path, char *buf, size_t size);

#endif
