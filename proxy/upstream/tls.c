// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* See tls.h. Not written yet: every function fails. */
#include "tls.h"

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

int tls_context_new(const struct tls_settings *settings, struct tls_context **ret_context,
		    char why[TLS_WHY_LEN])
{
	snprintf(why, TLS_WHY_LEN, "TLS is not supported");
	return -EOPNOTSUPP;
}

struct tls_context *tls_context_ref(struct tls_context *context)
{
	return context;
}

void tls_context_unref(struct tls_context *context)
{
}

int tls_home_init(struct tls_home *home, struct event_base *base)
{
	*home = (struct tls_home){ .base = base };
	return 0;
}

void tls_home_finish(struct tls_home *home)
{
}

void tls_home_stop(struct tls_home *home)
{
}

int tls_bridge_new(struct tls_home *home, int fd, struct tls_context *context, tls_done_fn done,
		   void *data, int *ret_near_fd, struct tls_bridge **ret_bridge)
{
	close(fd);
	return -EOPNOTSUPP;
}

void tls_bridge_close(struct tls_bridge *bridge, bool reset)
{
}

int tls_bridge_fd(const struct tls_bridge *bridge)
{
	return -1;
}

const char *tls_bridge_describe(const struct tls_bridge *bridge, char buf[TLS_WHY_LEN])
{
	buf[0] = '\0';
	return buf;
}
