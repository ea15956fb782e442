/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The server half of tproxy-bench. */
#ifndef TPROXY_BENCH_SERVER_H
#define TPROXY_BENCH_SERVER_H

struct sockaddr_in;

/*
 * Serves @address with one thread per CPU until it is killed, or for an hour. @buffers is the
 * listener's SO_SNDBUF and SO_RCVBUF in bytes, which accepted sockets inherit; 0 = the kernel's
 * default.
 */
_Noreturn void server_run(const struct sockaddr_in *address, unsigned int buffers);

#endif
