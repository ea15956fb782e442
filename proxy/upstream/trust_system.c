// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* See trust_system.h. */
#include "trust_system.h"

#include <errno.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "trust.h"
#include "trust_directory.h"

const char *trust_system_directories(void)
{
	const char *named = secure_getenv(X509_get_default_cert_dir_env());

	return named ? named : X509_get_default_cert_dir();
}

int trust_load_system(X509_STORE *store, const char **ret_path, struct stat *ret_stat, char *why,
		      size_t why_len)
{
	const char *variable = X509_get_default_cert_file_env();
	/* Like OpenSSL, ignores the variables if the program has more privileges than its user. */
	const char *named = secure_getenv(variable);
	const char *path = named ? named : X509_get_default_cert_file();
	int n, r;

	*ret_path = NULL;
	r = trust_directory_add(store, trust_system_directories());
	if (r < 0) {
		snprintf(why, why_len, "%s", strerror(-r));
		return r;
	}
	if (!*path)
		return 0;
	n = snprintf(why, why_len, "%s: ", named ? variable : "the system's certificates");
	r = trust_load(store, path, ret_stat, why + n, why_len - (size_t)n);
	if (r == -ENOENT && !named)
		return 0;
	if (r == 0)
		*ret_path = path;
	return r;
}
