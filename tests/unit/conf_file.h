/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * A configuration file with upstreams in a directory of the test, what the relay reads of it
 * (proxy/upstream/config.h), and what it says about mistakes. Included by one file of each test
 * program.
 */
#ifndef TPROXY_CONF_FILE_H
#define TPROXY_CONF_FILE_H

#include "upstream/config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "log.h"
#include "unit.h"
#include "upstream/upstream.h"

#define LOG_LEN 8192

/* The directory, the file of upstreams and that of a password; the log of read_conf(). */
static char directory[] = "/tmp/tproxy-test-XXXXXX";
static char path[64], password_path[64];
static int log_fd, stderr_fd;
static struct upstreams_conf conf;

/* Replaces the bytes and the mode of a file. */
static inline void write_file(const char *name, const void *bytes, size_t len, mode_t mode)
{
	int fd = open(name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	assert_return_code(fd, errno);
	assert_int_equal(write(fd, bytes, len), len);
	assert_return_code(fchmod(fd, mode), errno);
	close(fd);
}

static inline int on_begin(void *data, const char *section, const char *name, unsigned int line,
			   char error[CONFIGFILE_ERROR_LEN])
{
	return upstream_reader_begin(data, section, name, line, error);
}

static inline int on_key(void *data, const char *key, const char *value, unsigned int line,
			 char error[CONFIGFILE_ERROR_LEN])
{
	return upstream_reader_set(data, key, value, line, error);
}

/* Reads a file of this text into conf, with the log in log_fd. */
static inline int read_conf(const char *text)
{
	struct configfile file = { .path = path, .section = "relay" };
	struct upstream_reader *reader;
	int r;

	upstreams_conf_finish(&conf);
	write_file(path, text, strlen(text), 0644);
	reader = upstream_reader_create(&conf);
	assert_non_null(reader);
	file.begin = on_begin;
	file.set_other = on_key;
	file.data = reader;
	assert_return_code(ftruncate(log_fd, 0), errno);
	assert_return_code(lseek(log_fd, 0, SEEK_SET), errno);
	assert_return_code(dup2(log_fd, STDERR_FILENO), errno);
	r = configfile_read(&file);
	if (r == 0)
		r = upstream_reader_check(reader, path);
	assert_return_code(dup2(stderr_fd, STDERR_FILENO), errno);
	upstream_reader_destroy(reader);
	return r;
}

/* Reads the text, which has exactly one mistake: the message begins with "PATH:LINE: ". */
static inline void expect_wrong(const char *text, unsigned int line, const char *message)
{
	char log[LOG_LEN] = "", expected[LOG_LEN];

	assert_int_equal(read_conf(text), -EINVAL);
	assert_true(pread(log_fd, log, sizeof(log) - 1, 0) > 0);
	snprintf(expected, sizeof(expected), "test: %s:%u: %s\n", path, line, message);
	assert_string_equal(log, expected);
}

/* Reads the text, which has no mistake: nothing is said. */
static inline void expect_good(const char *text)
{
	char log[LOG_LEN] = "";
	int r = read_conf(text);

	assert_true(pread(log_fd, log, sizeof(log) - 1, 0) >= 0);
	assert_string_equal(log, "");
	assert_int_equal(r, 0);
}

/* Of the group of tests. */
static inline int set_up(void **state)
{
	assert_non_null(mkdtemp(directory));
	snprintf(path, sizeof(path), "%s/conf", directory);
	snprintf(password_path, sizeof(password_path), "%s/password", directory);
	log_fd = memfd_create("log", MFD_CLOEXEC);
	stderr_fd = dup(STDERR_FILENO);
	assert_true(log_fd >= 0 && stderr_fd >= 0);
	unsetenv("JOURNAL_STREAM");
	log_init("test", LOG_LEVEL_INFO);
	return 0;
}

static inline int tear_down(void **state)
{
	upstreams_conf_finish(&conf);
	unlink(path);
	unlink(password_path);
	rmdir(directory);
	return 0;
}

#endif
