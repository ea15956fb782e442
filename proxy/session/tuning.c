// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* See tuning.h. */
#include "tuning.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <sys/socket.h>

#include "kernel/origdst.h"
#include "session.h"
#include "sock.h"
#include "tproxy_abi.h"
#include "worker/worker.h"

/* The interval of the probes is the host's if that is shorter; otherwise keepidle_s. */
void tuning_set_keepidle(struct session *s)
{
	const int idle_s = s->worker->keepidle_s, on = idle_s > 0;

	s->keepidle_s = idle_s;
	if (s->keeps_own)
		return;
	setsockopt(s->server_fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
	if (!on)
		return;
	sock_set_tcp(s->server_fd, TCP_KEEPIDLE, idle_s);
	if (sock_get_tcp(s->server_fd, TCP_KEEPINTVL) > idle_s)
		sock_set_tcp(s->server_fd, TCP_KEEPINTVL, idle_s);
}

void tuning_pass_options_on(struct session *s)
{
	const int on = 1;
	struct tproxy_conn conn;

	if (origdst_get_conn(s->client_fd, &conn) < 0)
		return;
	if (conn.user_timeout_ms)
		sock_set_tcp(s->server_fd, TCP_USER_TIMEOUT, (int)conn.user_timeout_ms);
	if (!conn.keep_alive || !conn.keep_idle_s || !conn.keep_intvl_s || !conn.keep_probes)
		return;
	s->keeps_own = true;
	sock_set_tcp(s->server_fd, TCP_KEEPIDLE, conn.keep_idle_s);
	sock_set_tcp(s->server_fd, TCP_KEEPINTVL, conn.keep_intvl_s);
	sock_set_tcp(s->server_fd, TCP_KEEPCNT, conn.keep_probes);
	setsockopt(s->server_fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
}
