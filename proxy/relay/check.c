// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * See check.h. The checks change nothing, and the programs need not be loaded. A port in use is no
 * error: a running relay may have it, and shares it with the next relay.
 */
#include "check.h"

#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "escape.h"
#include "kernel/local.h"
#include "log.h"
#include "options.h"
#include "parse.h"
#include "quote.h"
#include "upstreams.h"
#include "util.h"

static int check_address(const char *option, const union sockaddr_any *addr)
{
	_cleanup_close_ int fd = socket(addr->sa.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	char text[FORMAT_ENDPOINT_LEN];
	int r = 0;

	if (fd < 0 || bind(fd, &addr->sa, sockaddr_len(addr)) < 0)
		r = -errno;
	if (local_is_broadcast(addr)) {
		log_err("--%s %s: it is a broadcast address, to which no client can connect",
			option, format_endpoint(addr, text));
		return -EADDRNOTAVAIL;
	}
	if (r == 0 || r == -EADDRINUSE)
		return 0;
	log_err("--%s %s: %s%s", option, format_endpoint(addr, text), strerror(-r),
		r == -EACCES ? "; ports below 1024 need CAP_NET_BIND_SERVICE" : "");
	return r;
}

int check_mark(const struct options *o)
{
	_cleanup_close_ int fd = -1;
	/* A mark of 0 is the default, and setting it may be a case of its own. */
	const int mark = 1;
	int r;

	if (!o->pass_mark)
		return 0;
	fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_MARK, &mark, sizeof(mark)) == 0)
		return 0;
	r = -errno;
	log_err("--pass-mark: cannot mark a socket: %s%s", strerror(-r),
		r == -EPERM
			? "; this needs CAP_NET_RAW or CAP_NET_ADMIN in the user namespace that owns the network namespace, see tproxy-relay(8)"
			: "");
	return r;
}

static int check_admin(const struct admin_address *admin)
{
	if (!admin_address_is_set(admin))
		return 0;
	return *admin->path ? admin_path_check(admin->path) : check_address("admin", &admin->tcp);
}

int check_options(struct options *o)
{
	char text[FORMAT_ENDPOINT_LEN], text6[FORMAT_ENDPOINT_LEN];
	char quoted[SHELL_QUOTE_LEN(PATH_MAX)], shown[ESCAPE_LEN(PATH_MAX)];
	int family, r = 0, one;

	for (family = 0; family < _TPROXY_FAMILY_MAX; family++) {
		one = o->listen_given[family] ? check_address("listen", &o->listen[family]) : 0;
		r = r < 0 ? r : one;
	}
	one = check_mark(o);
	r = r < 0 ? r : one;
	one = check_admin(&o->admin);
	r = r < 0 ? r : one;
	one = relay_upstreams_read(o);
	r = r < 0 ? r : one;
	if (r < 0)
		return r;
	printf("good: would listen on %s and %s, with %u workers\n",
	       format_endpoint(&o->listen[TPROXY_INET], text),
	       format_endpoint(&o->listen[TPROXY_INET6], text6), o->workers);
	relay_upstreams_print_owners(o);
	if (o->config_has_others)
		printf("checked section [relay] of '%s'; to check section [load]: tproxy-load --check --config %s\n",
		       escape_text(o->config, strlen(o->config), shown, sizeof(shown)),
		       shell_quote(o->config, quoted, sizeof(quoted)));
	return 0;
}
