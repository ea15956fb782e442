/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The files of a capture: one, a pipe, or a sequence or ring of files. Functions log errors and
 * return 0 or -errno.
 */
#ifndef TPROXY_CAPTURE_OUTPUT_H
#define TPROXY_CAPTURE_OUTPUT_H

#include <stdbool.h>
#include <stdint.h>

#include "pcapng.h"

struct output_options {
	const char *path;     /* "-": stdout */
	const char *program;  /* that writes the files */
	uint64_t file_size;   /* bytes after which a file is full; 0: never */
	uint32_t n_files;     /* files of a ring; 0: as many as are needed */
	uint32_t snap_length; /* of packets */
};

/* Set by output_open(). A zeroed one is not open. */
struct output {
	struct output_options options;
	struct pcapng pcapng;
	int fd;
	bool open;
	uint64_t written; /* bytes of this file */
	uint64_t n_opened;
};

/* Opens the first file. An existing one is replaced. The caller calls output_close(). */
int output_open(const struct output_options *options, struct output *output);

/* Returns true if the file has reached its size: the next packet belongs into another one. */
bool output_is_full(const struct output *output);
/* Finishes the file, and opens the next one. */
int output_next(struct output *output, const struct pcapng_statistics *statistics);
int output_packet(struct output *output, const struct pcapng_packet *packet);
/* Writes what was added. Call it when no packet waits. Returns -EPIPE, not logged, too. */
int output_flush(struct output *output);
/* Finishes the last file. Call it only if nothing has failed. */
int output_end(struct output *output, const struct pcapng_statistics *statistics);
void output_close(struct output *output);

#endif
