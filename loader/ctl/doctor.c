// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * tproxyctl doctor: runs the checks of loader/doctor/ and prints their findings. The checks probe
 * for features and never compare version numbers, because distributions backport features.
 */
#include <errno.h>
#include <inttypes.h>
#include <json-c/json.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "commands.h"
#include "config.h"
#include "doctor/doctor.h"
#include "host/json.h"
#include "options.h"
#include "util.h"

static const struct ctl_usage usage = {
	.command = CTL_DOCTOR,
	.synopsis = "[--json] [-p DIR] [-c PATH] [--strict]",
	.about =
		"Checks whether this host can run tproxy and whether what is loaded works. Prints\n"
		"each finding, and how to fix it. Exit status 1 if there is an error. Removes\n"
		"stale map entries, as status does, and changes nothing else.\n",
};

static const char *const level_names[_DOCTOR_LEVEL_MAX] = {
	[DOCTOR_OK] = "ok",
	[DOCTOR_INFO] = "info",
	[DOCTOR_WARNING] = "warning",
	[DOCTOR_ERROR] = "error",
};

/* Adds a member of a finding. */
_printf_(3, 0) static void add_text(struct json_object *to, const char *key, const char *fmt,
				    va_list ap)
{
	_cleanup_free_ char *text = NULL;

	if (vasprintf(&text, fmt, ap) < 0) {
		text = NULL;
		return;
	}
	json_add_string(to, key, text);
}

void doctor_add(struct doctor *d, enum doctor_level level, const char *check, const char *fmt, ...)
{
	struct json_object *finding = json_object_new_object();
	va_list ap;

	json_add_string(finding, "level", level_names[level]);
	json_add_string(finding, "check", check);
	va_start(ap, fmt);
	add_text(finding, "what", fmt, ap);
	va_end(ap);
	json_object_array_add(d->findings, finding);
	d->n[level]++;
}

void doctor_fix(struct doctor *d, const char *fmt, ...)
{
	size_t n = json_object_array_length(d->findings);
	va_list ap;

	va_start(ap, fmt);
	add_text(json_object_array_get_idx(d->findings, n - 1), "fix", fmt, ap);
	va_end(ap);
}

static bool is_default_dir(const struct doctor *d)
{
	return strcmp(d->pin_dir, TPROXY_PIN_DIR) == 0;
}

const char *doctor_fix_load(const struct doctor *d)
{
	return is_default_dir(d)
		       ? "systemctl reload tproxy-load; or tproxy-load with the options that it was given before"
		       : "tproxy-load with the options that it was given before, --pin-dir too";
}

const char *doctor_fix_relay(const struct doctor *d)
{
	return is_default_dir(d)
		       ? "systemctl restart tproxy-relay"
		       : "restart tproxy-relay with the options that it was given before, --pin-dir too";
}

int doctor_read_line(const char *path, char *buf, size_t size)
{
	_cleanup_fclose_ FILE *f = fopen(path, "re");

	if (!f)
		return -errno;
	if (!fgets(buf, (int)size, f))
		return ferror(f) ? -EIO : -ENODATA;
	buf[strcspn(buf, "\n")] = '\0';
	return 0;
}

static void print_text(const struct doctor *d)
{
	size_t i;

	printf("%-8s %-10s %s\n", "LEVEL", "CHECK", "FINDING");
	for (i = 0; i < json_object_array_length(d->findings); i++) {
		struct json_object *finding = json_object_array_get_idx(d->findings, i);
		const char *fix = json_get_string(finding, "fix");

		printf("%-8s %-10s %s\n", json_get_string(finding, "level"),
		       json_get_string(finding, "check"), json_get_string(finding, "what"));
		if (fix)
			printf("%-8s %-10s -> %s\n", "", "", fix);
	}
	printf("\n%u error%s, %u warning%s\n", d->n[DOCTOR_ERROR],
	       d->n[DOCTOR_ERROR] == 1 ? "" : "s", d->n[DOCTOR_WARNING],
	       d->n[DOCTOR_WARNING] == 1 ? "" : "s");
}

static void print_json(const struct doctor *d)
{
	_cleanup_(json_put) struct json_object *root = json_new_document();

	json_add_string(root, "pin_dir", d->pin_dir);
	json_add_bool(root, "loaded", d->loaded);
	json_add_number(root, "errors", d->n[DOCTOR_ERROR]);
	json_add_number(root, "warnings", d->n[DOCTOR_WARNING]);
	json_object_object_add(root, "findings", json_object_get(d->findings));
	json_print(root);
}

int ctl_doctor(int argc, char **argv)
{
	static void (*const checks[])(struct doctor * d) = {
		doctor_system,	 doctor_kernel,	   doctor_cgroup2,  doctor_bpffs,
		doctor_pinned,	 doctor_scopes,	   doctor_rules,    doctor_block,
		doctor_attached, doctor_xdp,	   doctor_policies, doctor_relay,
		doctor_honest,	 doctor_upstreams, doctor_waiting,  doctor_usage,
	};
	struct ctl_options options;
	struct doctor d = {};
	size_t i;
	int r;

	r = ctl_options_parse(argc, argv, &usage, &options);
	if (r)
		return r < 0 ? 2 : EXIT_SUCCESS;
	d.pin_dir = options.pin_dir;
	d.cgroup = *options.cgroup ? options.cgroup : NULL;
	d.findings = json_object_new_array();
	for (i = 0; i < ARRAY_SIZE(checks); i++)
		checks[i](&d);
	if (options.json)
		print_json(&d);
	else
		print_text(&d);
	json_object_put(d.findings);
	/* With --strict that includes the warning that nothing is loaded. */
	if (d.n[DOCTOR_ERROR] || (options.strict && d.n[DOCTOR_WARNING]))
		return EXIT_FAILURE;
	return EXIT_SUCCESS;
}
