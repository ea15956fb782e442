// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* tproxyctl. See options.h. Each option is also in tproxyctl.8.scd and ctl-completion.bash. */
#include "options.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "config.h"
#include "log.h"
#include "optparse.h"
#include "parse.h"
#include "util.h"

/* PID_MAX_LIMIT of a 64-bit kernel, include/linux/threads.h. */
#define PID_MAX (4 * 1024 * 1024)

enum {
	OPT_JSON = 0x100,
	OPT_PID,
	OPT_PORT,
	OPT_REMOVE,
	OPT_STRICT,
};

static const struct optparse_option common_options[] = {
	{ "pin-dir", 'p', true },
	{ "json", OPT_JSON, false },
	{ "help", 'h', false },
};
static const struct optparse_option examine_options[] = {
	{ "cgroup", 'c', true },
	{ "strict", OPT_STRICT, false },
};
static const struct optparse_option process_options[] = {
	{ "pid", OPT_PID, true },
	{ "port", OPT_PORT, true },
	{ "remove", OPT_REMOVE, false },
};
#define OPTIONS_MAX                                                                                \
	(ARRAY_SIZE(common_options) + ARRAY_SIZE(examine_options) + ARRAY_SIZE(process_options) + 1)

/* Collects the options that a command takes. */
static void collect(const struct ctl_usage *usage, struct optparse_option ret_options[OPTIONS_MAX])
{
	memset(ret_options, 0, OPTIONS_MAX * sizeof(*ret_options));
	memcpy(ret_options, common_options, sizeof(common_options));
	ret_options += ARRAY_SIZE(common_options);
	if (usage->examine) {
		memcpy(ret_options, examine_options, sizeof(examine_options));
		ret_options += ARRAY_SIZE(examine_options);
	}
	if (usage->process)
		memcpy(ret_options, process_options, sizeof(process_options));
}

static void print_help(const char *command, const struct ctl_usage *usage)
{
	printf("Usage: tproxyctl %s %s\n\n%s\n", command, usage->synopsis, usage->about);
	if (usage->process)
		printf("      --pid PID       the process that listens, or whose children do\n"
		       "      --port PORT     only what listens at this port; may be repeated\n"
		       "      --remove        take the registration of that process back\n");
	if (usage->examine)
		printf("  -c, --cgroup PATH   look at this cgroup too, as if it were to be attached to\n"
		       "      --strict        exit status 1 for a warning too, as when nothing is loaded\n");
	printf("  -p, --pin-dir DIR   where tproxy-load has pinned (default: %s)\n"
	       "      --json          for programs\n"
	       "  -h, --help          print this\n",
	       TPROXY_PIN_DIR);
}

#define usage_error(command, fmt, ...)                                                             \
	(log_err("%s: " fmt "; try 'tproxyctl %s --help'", (command), __VA_ARGS__, (command)),     \
	 -EINVAL)

static int parse_pid(const char *command, const char *text, pid_t *ret_pid)
{
	uint32_t value;

	if (parse_u32(text, 1, PID_MAX, &value) < 0)
		return usage_error(command, "--pid '%s' is not the number of a process", text);
	*ret_pid = (pid_t)value;
	return 0;
}

static int add_port(const char *command, const char *text, struct ctl_options *o)
{
	uint32_t value;
	size_t i;

	if (parse_u32(text, 1, UINT16_MAX, &value) < 0)
		return usage_error(command, "--port '%s' is not 1 to 65535", text);
	for (i = 0; i < o->n_ports; i++) {
		if (o->ports[i] == value)
			return 0;
	}
	if (o->n_ports == TPROXY_PORTS_MAX)
		return usage_error(command, "--port '%s' is one more than the %d that a relay has",
				   text, TPROXY_PORTS_MAX);
	o->ports[o->n_ports++] = (uint16_t)value;
	return 0;
}

/* Checks that need all options. Returns 0 or -EINVAL, logged. */
static int check(const char *command, const struct ctl_usage *usage, const struct ctl_options *o)
{
	if (!*o->pin_dir)
		return usage_error(command, "%s: the path is empty", "--pin-dir");
	if (o->cgroup && !*o->cgroup)
		return usage_error(command, "%s: the path is empty", "--cgroup");
	if (usage->process && !o->pid)
		return usage_error(command, "%s is missing", "--pid");
	if (o->remove && o->n_ports)
		return usage_error(command, "%s takes all ports back; it does not go with %s",
				   "--remove", "--port");
	return 0;
}

/* Applies one option. Returns 0, 1 if --help was answered, or -EINVAL, logged. */
static int apply(const char *command, const struct ctl_usage *usage, int c, const char *value,
		 struct ctl_options *o)
{
	switch (c) {
	case 'c':
		o->cgroup = value;
		return 0;
	case 'p':
		o->pin_dir = value;
		return 0;
	case OPT_JSON:
		o->json = true;
		return 0;
	case OPT_PID:
		return parse_pid(command, value, &o->pid);
	case OPT_PORT:
		return add_port(command, value, o);
	case OPT_REMOVE:
		o->remove = true;
		return 0;
	case OPT_STRICT:
		o->strict = true;
		return 0;
	case 'h':
		print_help(command, usage);
		return 1;
	default:
		return usage_error(command, "unexpected argument '%s'", value);
	}
}

int ctl_options_parse(int argc, char **argv, const struct ctl_usage *usage,
		      struct ctl_options *ret_options)
{
	struct ctl_options o = { .pin_dir = TPROXY_PIN_DIR };
	struct optparse_option options[OPTIONS_MAX];
	char error[OPTPARSE_ERROR_LEN];
	struct optparse p;
	const char *value;
	int c, r = 0;

	collect(usage, options);
	optparse_init(&p, argc, argv, options);
	while (r == 0 && (c = optparse_next(&p, &value, error)) != OPTPARSE_END) {
		if (c < 0)
			return usage_error(argv[0], "%s", error);
		r = apply(argv[0], usage, c, value, &o);
	}
	if (r == 0)
		r = check(argv[0], usage, &o);
	if (r == 0)
		*ret_options = o;
	return r;
}
