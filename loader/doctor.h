/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * tproxyctl doctor: findings, and the checks that make them. A check looks and tells; it changes
 * nothing, attaches nothing, pins nothing, and logs nothing.
 */
#ifndef TPROXY_LOADER_DOCTOR_H
#define TPROXY_LOADER_DOCTOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "util.h"

struct json_object;

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
	/* Found by one check, for those after it. */
	bool privileged; /* the kernel lets us probe */
	bool has_cgroup2;
	bool read_only; /* the bpffs, where the kernel opens no link */
	bool loaded;	/* by a loader of our version */
	bool fail_closed;
	uint64_t relay_cgroup_id; /* of the policy; 0: none */
	gid_t relay_gid;	  /* of the pins; 0: root only */
};

/* check: what was looked at, one word. Bytes that are not fit to print are escaped. */
void doctor_add(struct doctor *d, enum doctor_level level, const char *check, const char *fmt, ...)
	_printf_(4, 5);

/* The command that mends the last finding; where there is no command, what to do. */
void doctor_mend(struct doctor *d, const char *fmt, ...) _printf_(2, 3);

#define DOCTOR_MEND_LOAD                                                                           \
	"systemctl reload tproxy-load; or tproxy-load with the options that it was given before"
#define DOCTOR_MEND_RELAY "systemctl restart tproxy-relay"

/* In this order. */
void doctor_host(struct doctor *d);
void doctor_kernel(struct doctor *d);
void doctor_cgroup(struct doctor *d);
void doctor_bpffs(struct doctor *d);
void doctor_pins(struct doctor *d);
void doctor_targets(struct doctor *d);
void doctor_hooks(struct doctor *d);
void doctor_policy(struct doctor *d);
void doctor_relay(struct doctor *d);
void doctor_waiting(struct doctor *d);
void doctor_usage(struct doctor *d);

/* The first line of a file below /proc or /sys, without its newline; -errno. */
int doctor_read_line(const char *path, char *buf, size_t size);

#endif
