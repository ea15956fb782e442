// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * See output.h. Each file is complete in itself: it has its own section, interfaces and processes.
 * Names are those that tcpdump gives: FILE, FILE1, FILE2, ... with a size alone; FILE0 to FILE9 in
 * a ring of ten. If a write fails, a regular file is cut to its last whole block, so that other
 * programs read it.
 */
#include "output.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "log.h"
#include "util.h"

/* Bytes that are collected before they are written. */
#define FLUSH_SIZE (1 << 18)

static bool is_stdout(const struct output *o)
{
	return strcmp(o->options.path, "-") == 0;
}

/* Writes the name of the file with this number, from 0. */
static int name_of(const struct output *o, uint64_t number, char ret_path[PATH_MAX])
{
	char digits[24] = "", last[24];
	int n;

	if (o->options.n_files) {
		n = snprintf(last, sizeof(last), "%" PRIu32, o->options.n_files - 1);
		snprintf(digits, sizeof(digits), "%0*" PRIu64, n, number % o->options.n_files);
	} else if (number) {
		snprintf(digits, sizeof(digits), "%" PRIu64, number);
	}
	n = snprintf(ret_path, PATH_MAX, "%s%s", o->options.path, digits);
	return n < 0 || n >= PATH_MAX ? -ENAMETOOLONG : 0;
}

static int open_next(struct output *o)
{
	char path[PATH_MAX];
	int r;

	util_closep(&o->fd);
	o->fd = -1;
	if (is_stdout(o)) {
		o->fd = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3);
		r = o->fd < 0 ? -errno : 0;
		strcpy(path, "stdout");
	} else {
		r = name_of(o, o->n_opened, path);
		if (r == 0)
			o->fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOCTTY,
				     0600);
		if (r == 0 && o->fd < 0)
			r = -errno;
	}
	if (r == 0) {
		o->n_opened++;
		o->written = 0;
		r = pcapng_begin(&o->pcapng, o->options.program, o->options.snap_length);
	}
	if (r < 0)
		log_err("cannot open '%s': %s", path, strerror(-r));
	return r;
}

int output_open(const struct output_options *options, struct output *output)
{
	int r;

	*output = (struct output){ .options = *options, .fd = -1, .open = true };
	r = open_next(output);
	return r < 0 ? r : output_flush(output);
}

/* Returns how many of the first @len bytes are whole blocks. */
static size_t whole_blocks(const struct pcapng *p, size_t len)
{
	uint32_t block;
	size_t at = 0;

	while (at + 2 * sizeof(block) <= len) {
		memcpy(&block, p->data + at + sizeof(block), sizeof(block));
		if (at + block > len)
			break;
		at += block;
	}
	return at;
}

/* Cuts what a failed write has left of a block. */
static void cut(struct output *o, size_t done)
{
	const off_t end = (off_t)(o->written + whole_blocks(&o->pcapng, done));
	struct stat st;

	if (fstat(o->fd, &st) == 0 && S_ISREG(st.st_mode) && ftruncate(o->fd, end) < 0)
		log_debug("cannot cut the file: %s", strerror(errno));
}

int output_flush(struct output *o)
{
	struct pcapng *p = &o->pcapng;
	size_t done = 0;
	ssize_t n;
	int r;

	while (done < p->used) {
		n = write(o->fd, p->data + done, p->used - done);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			r = -errno;
			if (r != -EPIPE)
				log_err("cannot write packets: %s; what was written so far is complete",
					strerror(-r));
			cut(o, done);
			pcapng_clear(p);
			return r;
		}
		done += (size_t)n;
	}
	o->written += done;
	pcapng_clear(p);
	return 0;
}

static int no_memory(void)
{
	log_err("out of memory");
	return -ENOMEM;
}

int output_end(struct output *o, const struct pcapng_statistics *statistics)
{
	if (pcapng_statistics(&o->pcapng, statistics) < 0)
		return no_memory();
	return output_flush(o);
}

bool output_is_full(const struct output *o)
{
	return o->options.file_size && o->written + o->pcapng.used >= o->options.file_size;
}

int output_next(struct output *o, const struct pcapng_statistics *statistics)
{
	int r = output_end(o, statistics);

	return r < 0 ? r : open_next(o);
}

int output_packet(struct output *o, const struct pcapng_packet *packet)
{
	if (pcapng_packet(&o->pcapng, packet) < 0)
		return no_memory();
	return o->pcapng.used >= FLUSH_SIZE ? output_flush(o) : 0;
}

void output_close(struct output *o)
{
	if (!o->open)
		return;
	util_closep(&o->fd);
	pcapng_finish(&o->pcapng);
	o->open = false;
}
