// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* See trust.h. */
#include "trust.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "read_all.h"
#include "util.h"

/* Opens the file and checks its kind and size. Returns a descriptor, or -errno with *ret_text. */
static int open_file(const char *path, size_t *ret_size, const char **ret_text)
{
	/* O_NONBLOCK: open() of a pipe without a writer must not block. */
	_cleanup_close_ int fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	struct stat st;
	int r;

	if (fd < 0 || fstat(fd, &st) < 0) {
		r = -errno;
		/* open(2) fails with ENXIO for a socket. */
		*ret_text = r == -ENXIO ? "it is not a regular file" : strerror(-r);
		return r;
	}
	if (!S_ISREG(st.st_mode)) {
		*ret_text = "it is not a regular file";
		return -EINVAL;
	}
	if (st.st_size > TRUST_FILE_MAX) {
		*ret_text = "it is larger than 512 KiB";
		return -EFBIG;
	}
	*ret_size = (size_t)st.st_size;
	return TAKE_FD(fd);
}

/* Reads the file into memory that the caller frees. Returns its length, or -errno with *ret_text.
 */
static ssize_t read_file(const char *path, char **ret_bytes, const char **ret_text)
{
	size_t size = 0;
	_cleanup_close_ int fd = open_file(path, &size, ret_text);
	char *bytes;
	ssize_t n;

	if (fd < 0)
		return fd;
	bytes = malloc(size + 1);
	n = bytes ? read_all(fd, bytes, size + 1) : -ENOMEM;
	if (n > (ssize_t)size) {
		*ret_text = "it grew while it was read";
		n = -EAGAIN;
	} else if (n < 0) {
		*ret_text = strerror((int)-n);
	}
	if (n < 0) {
		free(bytes);
		return n;
	}
	*ret_bytes = bytes;
	return n;
}

/* Adds what the bytes contain. Returns the number of certificates, or -1 with errors of OpenSSL. */
static int add_all(X509_STORE *store, const char *bytes, size_t len)
{
	BIO *bio = BIO_new_mem_buf(bytes, (int)len);
	STACK_OF(X509_INFO) *list = NULL;
	const X509_INFO *info;
	int i, n = 0;

	/* The last argument is the password of private keys: OpenSSL must not ask for one. */
	if (bio)
		list = PEM_X509_INFO_read_bio(bio, NULL, NULL, (void *)"");
	BIO_free(bio);
	if (!list)
		return -1;
	for (i = 0; i < sk_X509_INFO_num(list) && n >= 0; i++) {
		info = sk_X509_INFO_value(list, i);
		if ((info->x509 && !X509_STORE_add_cert(store, info->x509)) ||
		    (info->crl && !X509_STORE_add_crl(store, info->crl)))
			n = -1;
		else if (info->x509)
			n++;
	}
	sk_X509_INFO_pop_free(list, X509_INFO_free);
	return n;
}

uint64_t trust_mix_state(uint64_t state, const char *path)
{
	struct stat st;

	if (stat(path, &st) < 0)
		memset(&st, 0, sizeof(st));
	state = fnv64(state, &st.st_dev, sizeof(st.st_dev));
	state = fnv64(state, &st.st_ino, sizeof(st.st_ino));
	state = fnv64(state, &st.st_size, sizeof(st.st_size));
	/* st_ctim changes with the mode too: a file may have become unreadable. */
	state = fnv64(state, &st.st_ctim.tv_sec, sizeof(st.st_ctim.tv_sec));
	return fnv64(state, &st.st_ctim.tv_nsec, sizeof(st.st_ctim.tv_nsec));
}

int trust_load(X509_STORE *store, const char *path, char *why, size_t why_len)
{
	const char *text = NULL;
	char *bytes = NULL;
	ssize_t len;
	int n;

	len = read_file(path, &bytes, &text);
	if (len < 0) {
		snprintf(why, why_len, "cannot read '%s': %s", path, text);
		return (int)len;
	}
	ERR_clear_error();
	n = add_all(store, bytes, (size_t)len);
	free(bytes);
	if (n > 0)
		return 0;
	text = n < 0 ? ERR_reason_error_string(ERR_peek_error()) : "it has none (PEM)";
	snprintf(why, why_len, "no certificates from '%s': %s", path,
		 text ? text : "unknown error");
	ERR_clear_error();
	return -EINVAL;
}
