// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * tproxy-load: main(). It reads the command line and does one of load, check, unload, status and
 * follow. It exits with 0, 1 after a failure, or 2 for a usage error. The program keeps no state of
 * its own: all state is in the kernel, under the pins.
 */
#include <bpf/libbpf.h>
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "follow.h"
#include "load.h"
#include "log.h"
#include "options.h"
#include "sink.h"
#include "state/status.h"
#include "unload.h"
#include "util.h"

/* The end of a verifier log tells why a program was rejected. */
#define LIBBPF_LINES_MAX 40

/*
 * libbpf's messages, and the verifier's log among them, are details of an error that is logged in
 * one line without them. They are printed with -v only, whatever level libbpf gives them.
 */
static int print_libbpf(enum libbpf_print_level level, const char *fmt, va_list ap) _printf_(2, 0);
static int print_libbpf(enum libbpf_print_level level, const char *fmt, va_list ap)
{
	_cleanup_free_ char *text = NULL;
	char *line, *p;
	int lines = 0;

	if (level == LIBBPF_DEBUG || !log_enabled(LOG_LEVEL_DEBUG))
		return 0;
	if (vasprintf(&text, fmt, ap) < 0) {
		text = NULL;
		return 0;
	}
	for (p = text + strlen(text); p > text && lines <= LIBBPF_LINES_MAX; p--)
		lines += p[-1] == '\n';
	if (p > text)
		p += 2;
	while ((line = strsep(&p, "\n"))) {
		if (*line)
			log_debug("%s", line);
	}
	return 0;
}

int main(int argc, char **argv)
{
	struct load_options options;
	int r = 0;

	sink_init();
	/* A reader that closes our output must not end a load half-way. */
	signal(SIGPIPE, SIG_IGN);
	log_init("tproxy-load", LOG_LEVEL_INFO);
	r = load_options_parse(argc, argv, &options);
	if (r)
		return log_answered() < 0 ? EXIT_FAILURE : r < 0 ? 2 : EXIT_SUCCESS;
	log_init("tproxy-load", options.verbose ? LOG_LEVEL_DEBUG : LOG_LEVEL_INFO);
	libbpf_set_print(print_libbpf);
	switch (options.mode) {
	case OPTIONS_LOAD:
		r = load(&options);
		break;
	case OPTIONS_CHECK:
		r = load_check(&options);
		break;
	case OPTIONS_UNLOAD:
		r = unload(options.pin_dir);
		break;
	case OPTIONS_FOLLOW:
		r = follow(options.pin_dir);
		break;
	case OPTIONS_STATUS:
		r = status(options.pin_dir, options.json);
		break;
	}
	load_options_finish(&options);
	return log_answered() < 0 || r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
