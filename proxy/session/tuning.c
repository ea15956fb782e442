// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* See tuning.h. */
#include "tuning.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include "kernel/origdst.h"
#include "upstream/sock.h"
#include "tproxy_abi.h"

/* The interval of the probes is the host's if that is shorter; otherwise idle_s. */
void tuning_set_keepidle(int upstream_fd, int idle_s)
{
	const int on = idle_s > 0;

	setsockopt(upstream_fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
	if (!on)
		return;
	sock_set_tcp(upstream_fd, TCP_KEEPIDLE, idle_s);
	if (sock_get_tcp(upstream_fd, TCP_KEEPINTVL) > idle_s)
		sock_set_tcp(upstream_fd, TCP_KEEPINTVL, idle_s);
}

bool tuning_limits_connect(int upstream_fd)
{
	return sock_get_tcp(upstream_fd, TCP_USER_TIMEOUT) > 0;
}

bool tuning_pass_options_on(int client_fd, int upstream_fd)
{
	struct tproxy_conn conn;

	return origdst_get_conn(client_fd, &conn) == 0 &&
	       tuning_pass_options_of(&conn, upstream_fd);
}

bool tuning_pass_options_of(const struct tproxy_conn *conn, int upstream_fd)
{
	const int on = 1;

	if (conn->user_timeout_ms)
		sock_set_tcp(upstream_fd, TCP_USER_TIMEOUT, (int)conn->user_timeout_ms);
	if (!conn->keep_alive || !conn->keep_idle_s || !conn->keep_intvl_s || !conn->keep_probes)
		return false;
	sock_set_tcp(upstream_fd, TCP_KEEPIDLE, conn->keep_idle_s);
	sock_set_tcp(upstream_fd, TCP_KEEPINTVL, conn->keep_intvl_s);
	sock_set_tcp(upstream_fd, TCP_KEEPCNT, conn->keep_probes);
	setsockopt(upstream_fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
	return true;
}
