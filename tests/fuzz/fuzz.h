/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Shared by all fuzz targets. Each target is one translation unit that includes the code under test
 * after this file. It can therefore call static functions, and calls that would touch the host are
 * replaced: log lines are checked and counted instead of written, and fopen() opens fuzz_file.
 */
#ifndef TPROXY_FUZZ_H
#define TPROXY_FUZZ_H

#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/*
 * A property that does not hold is a finding, as an invalid access is: libFuzzer keeps the input.
 */
#define require(condition)                                                                         \
	do {                                                                                       \
		if (!(condition)) {                                                                \
			fprintf(stderr, "%s:%d: does not hold: %s\n", __FILE__, __LINE__,          \
				#condition);                                                       \
			abort();                                                                   \
		}                                                                                  \
	} while (0)

/*
 * Returns the bytes as a string on the heap, of the exact size, so that ASan detects a read beyond
 * its end. The caller frees it.
 */
static inline char *fuzz_string(const void *data, size_t size)
{
	char *s = malloc(size + 1);

	require(s);
	if (size > 0)
		memcpy(s, data, size);
	s[size] = '\0';
	return s;
}

/*
 * Number of log lines since the last reset. The real log.c and sink.c produce them, each with one
 * write.
 */
static unsigned int fuzz_logged;

static inline ssize_t fuzz_log_write(int fd, const char *line, size_t len)
{
	require(fd == STDERR_FILENO);
	require(len > 1 && line[len - 1] == '\n');
	require(!memchr(line, '\0', len));
	fuzz_logged++;
	return (ssize_t)len;
}

/* stderr is no regular file here, so logfile.c is only compiled in. */
#include "../../common/logfile.c"
#include "../../common/escape.c"
#define write fuzz_log_write
#include "../../common/sink.c"
#include "../../common/log.c"
#undef write

/* The contents of the file that the code under test opens, whatever its name is. */
static struct {
	const void *data;
	size_t size;
} fuzz_file;

static inline FILE *fuzz_fopen(const char *path, const char *mode)
{
	/* fmemopen() needs a pointer for an empty buffer too. */
	void *data = fuzz_file.size > 0 ? (void *)(uintptr_t)fuzz_file.data : (void *)"";

	require(path && mode[0] == 'r');
	return fmemopen(data, fuzz_file.size, "r");
}

/* For configfile.c: opens /dev/null, which passes its check; fdopen() then gives it fuzz_file. */
static inline int fuzz_open(const char *path, int flags)
{
	require(path);
	return open("/dev/null", flags);
}

static inline FILE *fuzz_fdopen(int fd, const char *mode)
{
	close(fd);
	return fuzz_fopen("", mode);
}

#endif
