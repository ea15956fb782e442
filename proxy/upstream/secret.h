/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The password of an upstream. Its bytes are in a page of their own, which core dumps leave out
 * (MADV_DONTDUMP), which is kept out of swap where the limit of locked memory permits it, and which
 * is zeroed before it is freed. The bytes are read from a file into that page: they are on no
 * command line, in no log line, map, metric or page.
 *
 * Code that copies them into a message for an upstream must do so in secret_memory_new(), must
 * overwrite the copy after use (explicit_bzero()), and must not pass them to the log.
 */
#ifndef TPROXY_SECRET_H
#define TPROXY_SECRET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Limit of a password: SOCKS5 has one byte for the length (RFC 1929). */
#define SECRET_MAX	 255
#define SECRET_ERROR_LEN 512

struct secret;

/*
 * Reads a password file: a regular file with one line, of 1 to SECRET_MAX bytes. A newline, or a
 * carriage return and a newline, at its end is optional and cut off. Root or the user of this
 * process must own it; the mode must let the owner read it and give nobody else access (as
 * 0600 and 0400 do). Root itself reads a file of any owner. Returns 0, or -errno with a message in
 * error, which has no byte of the file. The caller owns *ret_secret.
 */
int secret_read_file(const char *path, struct secret **ret_secret, char error[SECRET_ERROR_LEN]);
/*
 * Reads $CREDENTIALS_DIRECTORY/NAME in the same way, but the file may belong to a group too:
 * systemd gives the unit's user access by an ACL, which stat(2) shows as rights of the group.
 */
int secret_read_credential(const char *name, struct secret **ret_secret,
			   char error[SECRET_ERROR_LEN]);
/* Makes a secret of len bytes, at most SECRET_MAX. Returns 0 or -ENOMEM. */
int secret_new(const void *bytes, size_t len, struct secret **ret_secret);

/*
 * Keeps the page out of swap, where the limit of locked memory permits it. Only for a process that
 * has inherited the secret by fork(): the page stays out of core dumps there, but is not locked.
 */
void secret_lock(const struct secret *secret);

/* Returns the bytes, which are not terminated. They live as long as the secret. */
const uint8_t *secret_bytes(const struct secret *secret, size_t *ret_len);

/*
 * Returns len zeroed bytes, in pages that core dumps leave out, for messages that have a secret.
 * Three system calls make and free them. NULL with errno: there is no memory.
 */
void *secret_memory_new(size_t len);
/* Overwrites and frees them. NULL is ignored. */
void secret_memory_free(void *memory, size_t len);

/* True if both are NULL, or both have the same bytes. */
bool secret_equal(const struct secret *a, const struct secret *b);
/* Zeroes the bytes and frees the secret. NULL is ignored. */
void secret_free(struct secret *secret);

#endif
