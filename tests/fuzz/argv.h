/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Turns an input into a command line and a configuration file, in a form that is easy to write by
 * hand: one word a line up to the first empty line, then the file that --config names.
 */
#ifndef TPROXY_FUZZ_ARGV_H
#define TPROXY_FUZZ_ARGV_H

#include "fuzz.h"

#define FUZZ_ARGV_MAX 32

struct fuzz_argv {
	int argc;
	char *argv[FUZZ_ARGV_MAX + 1];
};

static inline void fuzz_argv_add(struct fuzz_argv *a, const void *word, size_t size)
{
	a->argv[a->argc++] = fuzz_string(word, size);
	a->argv[a->argc] = NULL;
}

static inline void fuzz_argv_init(struct fuzz_argv *a, const char *name, const uint8_t *data,
				  size_t size)
{
	const uint8_t *end = data + size, *eol;

	a->argc = 0;
	fuzz_argv_add(a, name, strlen(name));
	while (data < end && *data != '\n') {
		eol = memchr(data, '\n', (size_t)(end - data));
		if (!eol)
			eol = end;
		if (a->argc < FUZZ_ARGV_MAX)
			fuzz_argv_add(a, data, (size_t)(eol - data));
		data = eol < end ? eol + 1 : end;
	}
	if (data < end)
		data++;
	fuzz_file.data = data;
	fuzz_file.size = (size_t)(end - data);
}

static inline void fuzz_argv_finish(struct fuzz_argv *a)
{
	while (a->argc > 0)
		free(a->argv[--a->argc]);
}

#endif
