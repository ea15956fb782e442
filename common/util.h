/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Helpers that every file may use: array size, ownership of locals, attributes. */
#ifndef TPROXY_UTIL_H
#define TPROXY_UTIL_H

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

#define _printf_(fmt, args) __attribute__((format(printf, fmt, args)))

/*
 * A local with one of these attributes releases what it owns at the end of its scope, unless
 * TAKE_FD() or TAKE_PTR() has moved it elsewhere. Initialise descriptors to -1, pointers to NULL.
 */
#define _cleanup_(fn)	   __attribute__((cleanup(fn)))
#define _cleanup_free_	   _cleanup_(util_freep)
#define _cleanup_close_	   _cleanup_(util_closep)
#define _cleanup_closedir_ _cleanup_(util_closedirp)
#define _cleanup_fclose_   _cleanup_(util_fclosep)

static inline void util_freep(void *p)
{
	free(*(void **)p);
}

static inline void util_closep(int *fd)
{
	if (*fd >= 0)
		close(*fd);
}

static inline void util_closedirp(DIR **dir)
{
	if (*dir)
		closedir(*dir);
}

static inline void util_fclosep(FILE **file)
{
	if (*file)
		fclose(*file);
}

#define TAKE_FD(fd)                                                                                \
	({                                                                                         \
		int _taken = (fd);                                                                 \
		(fd) = -1;                                                                         \
		_taken;                                                                            \
	})

#define TAKE_PTR(ptr)                                                                              \
	({                                                                                         \
		__typeof__(ptr) _taken = (ptr);                                                    \
		(ptr) = NULL;                                                                      \
		_taken;                                                                            \
	})

#endif
