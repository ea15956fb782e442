// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * See secret.h. A secret is a struct on the heap with the length, and a mapping of one page with
 * the bytes. read(2) writes into that page directly: stdio would leave a copy in a buffer of its
 * own. The page is read-only once it is filled.
 *
 * Core dumps: the kernel and gcore(1) leave out mappings with MADV_DONTDUMP. Swap: mlock(2) counts
 * against RLIMIT_MEMLOCK; a process at that limit goes on without it.
 */
#include "secret.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "read_all.h"
#include "util.h"

/* What is read at most: a password, "\r\n", and one byte more, which shows that it is longer. */
#define READ_MAX (SECRET_MAX + 3)

struct secret {
	size_t len;
	uint8_t *page;
};

/* Writes the message to error. Its value is -r. */
#define refuse(error, r, ...) (snprintf(error, SECRET_ERROR_LEN, __VA_ARGS__), -(r))

static size_t page_size(void)
{
	return (size_t)sysconf(_SC_PAGESIZE);
}

void *secret_memory_new(size_t len)
{
	void *memory = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int error;

	if (memory == MAP_FAILED)
		return NULL;
	if (madvise(memory, len, MADV_DONTDUMP) < 0) {
		error = errno;
		munmap(memory, len);
		errno = error;
		return NULL;
	}
	return memory;
}

void secret_memory_free(void *memory, size_t len)
{
	if (!memory)
		return;
	explicit_bzero(memory, len);
	munmap(memory, len);
}

/* Returns a secret whose page is writable and zeroed, or NULL with errno. */
static struct secret *secret_create(void)
{
	struct secret *secret = calloc(1, sizeof(*secret));
	int error;

	if (!secret)
		return NULL;
	secret->page = secret_memory_new(page_size());
	if (!secret->page) {
		error = errno;
		free(secret);
		errno = error;
		return NULL;
	}
	secret_lock(secret);
	return secret;
}

void secret_lock(const struct secret *secret)
{
	mlock(secret->page, page_size());
}

static void secret_seal(struct secret *secret, size_t len)
{
	secret->len = len;
	mprotect(secret->page, page_size(), PROT_READ);
}

int secret_new(const void *bytes, size_t len, struct secret **ret_secret)
{
	struct secret *secret = secret_create();

	assert(len <= SECRET_MAX);
	if (!secret)
		return -ENOMEM;
	memcpy(secret->page, bytes, len);
	secret_seal(secret, len);
	*ret_secret = secret;
	return 0;
}

/* Modes of a kind of files. */
struct modes {
	mode_t forbidden; /* bits that the mode must not have */
	mode_t advice;	  /* a good mode */
};

static const struct modes password_modes = { 0077, 0600 };
/* systemd gives the unit's user access by an ACL, which stat(2) shows as rights of the group. */
static const struct modes credential_modes = { 0027, 0440 };

static const char *access_name(mode_t bits)
{
	return bits & 0044 ? "read" : bits & 0022 ? "change" : "execute";
}

/* Checks the kind of the open file, its owner and its mode. */
static int check_file(const char *path, int fd, const struct modes *modes,
		      char error[SECRET_ERROR_LEN])
{
	const uid_t user = geteuid();
	struct stat st;
	mode_t bad;

	if (fstat(fd, &st) < 0)
		return refuse(error, errno, "cannot read '%s': %s", path, strerror(errno));
	if (!S_ISREG(st.st_mode))
		return refuse(error, EINVAL, "'%s' is not a regular file", path);
	bad = st.st_mode & modes->forbidden;
	if (bad)
		return refuse(error, EPERM, "'%s' has mode %04o: others may %s it; set it to %04o",
			      path, st.st_mode & 07777, access_name(bad), modes->advice);
	/* Root may read it whatever the mode says, but the relay is not always root. */
	if (!(st.st_mode & S_IRUSR))
		return refuse(error, EPERM,
			      "'%s' has mode %04o: its owner may not read it; set it to %04o", path,
			      st.st_mode & 07777, modes->advice);
	if (st.st_uid != 0 && user != 0 && st.st_uid != user)
		return refuse(error, EPERM,
			      "'%s' belongs to uid %u; it must belong to root or to uid %u, the "
			      "relay's user",
			      path, st.st_uid, user);
	return 0;
}

/*
 * Finds the length of the password in the len bytes at page, without the newline at their end.
 * Returns 0, or -EINVAL with a message in error.
 */
static int check_text(const char *path, const uint8_t *page, size_t len, size_t *ret_len,
		      char error[SECRET_ERROR_LEN])
{
	if (len > 0 && page[len - 1] == '\n') {
		len--;
		if (len > 0 && page[len - 1] == '\r')
			len--;
	}
	if (len == 0)
		return refuse(error, EINVAL, "'%s' is empty; its line is the password", path);
	if (memchr(page, '\n', len))
		return refuse(error, EINVAL, "'%s' has more than one line; one is the password",
			      path);
	if (memchr(page, '\0', len))
		return refuse(error, EINVAL, "'%s' contains a NUL byte", path);
	if (len > SECRET_MAX)
		return refuse(error, EINVAL, "the password in '%s' is longer than %d bytes", path,
			      SECRET_MAX);
	*ret_len = len;
	return 0;
}

static const char *hint(int error)
{
	return error == EACCES ? "; the relay's user must own the file, or use "
				 "password-credential, see tproxy-upstreams(5)"
			       : "";
}

static int read_secret(const char *path, const struct modes *modes, struct secret **ret_secret,
		       char error[SECRET_ERROR_LEN])
{
	/* O_NONBLOCK: open() of a pipe without a writer must not block. */
	_cleanup_close_ int fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	struct secret *secret;
	size_t len = 0;
	ssize_t n;
	int r;

	if (fd < 0) {
		r = errno;
		return refuse(error, r, "cannot read '%s': %s%s", path, strerror(r), hint(r));
	}
	r = check_file(path, fd, modes, error);
	if (r < 0)
		return r;
	secret = secret_create();
	if (!secret) {
		r = errno;
		return refuse(error, r, "no page for the password in '%s': %s", path, strerror(r));
	}
	n = read_all(fd, secret->page, READ_MAX);
	if (n < 0)
		r = refuse(error, (int)-n, "cannot read '%s': %s", path, strerror((int)-n));
	else
		r = check_text(path, secret->page, (size_t)n, &len, error);
	if (r < 0) {
		secret_free(secret);
		return r;
	}
	secret_seal(secret, len);
	*ret_secret = secret;
	return 0;
}

int secret_read_file(const char *path, struct secret **ret_secret, char error[SECRET_ERROR_LEN])
{
	return read_secret(path, &password_modes, ret_secret, error);
}

int secret_read_credential(const char *name, struct secret **ret_secret,
			   char error[SECRET_ERROR_LEN])
{
	const char *directory = getenv("CREDENTIALS_DIRECTORY");
	char path[PATH_MAX];

	if (!directory || *directory != '/')
		return refuse(error, ENOENT,
			      "there is no $CREDENTIALS_DIRECTORY; have LoadCredential=%s:FILE in "
			      "the relay's unit",
			      name);
	if (snprintf(path, sizeof(path), "%s/%s", directory, name) >= (int)sizeof(path))
		return refuse(error, ENAMETOOLONG, "the path of credential '%s' is too long", name);
	return read_secret(path, &credential_modes, ret_secret, error);
}

const uint8_t *secret_bytes(const struct secret *secret, size_t *ret_len)
{
	*ret_len = secret->len;
	return secret->page;
}

bool secret_equal(const struct secret *a, const struct secret *b)
{
	if (!a || !b)
		return a == b;
	return a->len == b->len && memcmp(a->page, b->page, a->len) == 0;
}

void secret_free(struct secret *secret)
{
	if (!secret)
		return;
	mprotect(secret->page, page_size(), PROT_READ | PROT_WRITE);
	secret_memory_free(secret->page, page_size());
	free(secret);
}
