// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * See trust_directory.h. The method of OpenSSL for such directories (X509_LOOKUP_hash_dir()) opens
 * files with fopen(), which waits for the writer of a pipe.
 */
#include "trust_directory.h"

#include <errno.h>
#include <limits.h>
#include <openssl/x509.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "trust.h"
#include "util.h"

/* Limit of certificates of one subject, such as an old and a new one. */
#define SAME_NAME_MAX 64

static pthread_once_t once = PTHREAD_ONCE_INIT;
static X509_LOOKUP_METHOD *method; /* of all stores, never freed */

/* Adds the certificates of DIRECTORY/HASH.0, .1 and so on to the store. */
static void load_hash(X509_STORE *store, const char *directory, size_t len, unsigned long hash)
{
	char path[PATH_MAX], why[128];
	int i, r = 0;

	for (i = 0; i < SAME_NAME_MAX && r != -ENOENT; i++) {
		if (snprintf(path, sizeof(path), "%.*s/%08lx.%d", (int)len, directory, hash, i) >=
		    (int)sizeof(path))
			return;
		r = trust_load(store, path, why, sizeof(why));
	}
}

/* Sets *ret to a certificate with this subject that the store has. Returns 1, or 0 without one. */
static int find(X509_STORE *store, const X509_NAME *name, X509_OBJECT *ret)
{
	X509_OBJECT *found;
	X509 *cert = NULL;

	/* The search may sort the list. */
	X509_STORE_lock(store);
	found = X509_OBJECT_retrieve_by_subject(X509_STORE_get0_objects(store), X509_LU_X509, name);
	if (found)
		cert = X509_OBJECT_get0_X509(found);
	X509_STORE_unlock(store);
	if (!cert || !X509_OBJECT_set1_X509(ret, cert))
		return 0;
	/* The caller takes a reference of its own: the result has none, and the store keeps it. */
	X509_free(cert);
	return 1;
}

/*
 * Called if the store has no certificate with this subject. OpenSSL finds others with the same
 * subject in the store by itself.
 */
static int by_subject(X509_LOOKUP *lookup, X509_LOOKUP_TYPE type, const X509_NAME *name,
		      X509_OBJECT *ret)
{
	const char *directory = X509_LOOKUP_get_method_data(lookup);
	X509_STORE *store = X509_LOOKUP_get_store(lookup);
	const unsigned long hash = X509_NAME_hash((X509_NAME *)name);
	size_t len;

	/* Revocation lists of directories are not used. */
	if (type != X509_LU_X509)
		return 0;
	for (; *directory; directory += len + (directory[len] == ':')) {
		len = strcspn(directory, ":");
		if (len)
			load_hash(store, directory, len, hash);
	}
	return find(store, name, ret);
}

static void free_directories(X509_LOOKUP *lookup)
{
	free(X509_LOOKUP_get_method_data(lookup));
}

static void make_method(void)
{
	method = X509_LOOKUP_meth_new("tproxy: directories of certificates");
	if (!method)
		return;
	X509_LOOKUP_meth_set_get_by_subject(method, by_subject);
	X509_LOOKUP_meth_set_free(method, free_directories);
}

uint64_t trust_directory_state(uint64_t state, const char *directories)
{
	char path[PATH_MAX];
	size_t len;

	for (; *directories; directories += len + (directories[len] == ':')) {
		len = strcspn(directories, ":");
		if (len &&
		    snprintf(path, sizeof(path), "%.*s", (int)len, directories) < (int)sizeof(path))
			state = trust_mix_state(state, path);
	}
	return state;
}

int trust_directory_add(X509_STORE *store, const char *directories)
{
	_cleanup_free_ char *copy = strdup(directories);
	X509_LOOKUP *lookup;

	pthread_once(&once, make_method);
	lookup = copy && method ? X509_STORE_add_lookup(store, method) : NULL;
	if (!lookup || !X509_LOOKUP_set_method_data(lookup, copy))
		return -ENOMEM;
	TAKE_PTR(copy);
	return 0;
}
