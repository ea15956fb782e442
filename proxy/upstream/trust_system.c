// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* See trust_system.h. */
#include "trust_system.h"

#include <errno.h>
#include <openssl/x509.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "trust.h"
#include "trust_directory.h"

/* Like OpenSSL, ignores the variables if the program has more privileges than its user. */
static const char *named_file(void)
{
	return secure_getenv(X509_get_default_cert_file_env());
}

const char *trust_system_directories(void)
{
	const char *named = secure_getenv(X509_get_default_cert_dir_env());

	return named ? named : X509_get_default_cert_dir();
}

const char *trust_system_file(void)
{
	const char *named = named_file();

	return named ? named : X509_get_default_cert_file();
}

int trust_load_system(X509_STORE *store, char *why, size_t why_len)
{
	const bool named = named_file();
	const char *path = trust_system_file();
	int n, r;

	r = trust_directory_add(store, trust_system_directories());
	if (r < 0) {
		snprintf(why, why_len, "%s", strerror(-r));
		return r;
	}
	if (!*path)
		return 0;
	n = snprintf(why, why_len, "%s: ",
		     named ? X509_get_default_cert_file_env() : "the system's certificates");
	r = trust_load(store, path, why + n, why_len - (size_t)n);
	return r == -ENOENT && !named ? 0 : r;
}
