/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The server half of tproxy-bench. */
#ifndef TPROXY_BENCH_SERVER_H
#define TPROXY_BENCH_SERVER_H

struct sockaddr_in;

struct server_options {
	unsigned int buffers; /* the listener's SO_SNDBUF and SO_RCVBUF in bytes, which accepted
				 sockets inherit; 0 = the kernel's default */
	unsigned int threads; /* 0 = one for each CPU */
};

/* Serves @address until it is killed, or for an hour. */
_Noreturn void server_run(const struct sockaddr_in *address, const struct server_options *options);

#endif
