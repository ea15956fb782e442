/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * TLS to an upstream. A bridge stands between the socket of the upstream, on which it speaks TLS,
 * and one end of a socket pair, on which it passes plain bytes. The other end of the pair (the near
 * end) is given to the caller, who uses it as if it were the upstream's socket: handshake and pump
 * know nothing of TLS.
 *
 *   near end                                    upstream
 *   shutdown(SHUT_WR)                   ->      all bytes before it, then close_notify
 *   FIN                                 <-      close_notify
 *   tls_bridge_close(reset = true)      ->      reset
 *   tls_done_fn with an error           <-      reset, FIN without close_notify, bad record
 *
 * A stream that ends without close_notify may have been cut off by anyone on the path: it is
 * reported as an error, never as a FIN.
 *
 * Each direction waits either to read or to write: this is the back-pressure. A bridge keeps at
 * most 16 KiB in each direction, and OpenSSL about 50 KiB while it works on records, 15 KiB while
 * idle. The kernel buffers at most TLS_PAIR_BUFFER of the pair in each direction.
 *
 * A home is the set of bridges of one thread. All functions of a home and its bridges run in that
 * thread. A context (tls_context.h) is shared by all threads.
 */
#ifndef TPROXY_TLS_H
#define TPROXY_TLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "tls_context.h"

struct event;
struct event_base;

/* Send buffer of each end of a pair, as the kernel accounts it. */
#define TLS_PAIR_BUFFER (256 * 1024)

struct tls_bridge;

struct tls_home {
	struct event_base *base;
	LIST_HEAD(, tls_bridge) bridges;
	uint32_t n; /* bridges, also those that finish after tls_bridge_close() */
	uint32_t n_blocked;
	struct event *probe; /* timer: looks for resets of upstreams that are not read from */
	char *scratch;	     /* core dumps leave it out: requests with passwords pass through it */
	/* Set by the owner, may be NULL: a bridge has ended and is freed. */
	void (*on_end)(void *owner);
	void *owner;
};

/* Initialises a home without bridges. Returns 0 or -ENOMEM; tls_home_finish() is needed too. */
int tls_home_init(struct tls_home *home, struct event_base *base);
/* Resets all connections that are left, and frees the home. Zeroed: does nothing. */
void tls_home_finish(struct tls_home *home);
/* Resets the connections that finish after tls_bridge_close(), for a stop without delay. */
void tls_home_stop(struct tls_home *home);

/*
 * Called once with error 0 when the TLS handshake is done, and once with an errno when the
 * connection has failed, before or after that. Bytes that the upstream sent before a failure are in
 * the pair. why is the text of the failure for the log, valid during the call. Never called from
 * within tls_bridge_new(), nor after tls_bridge_close(). The callee may call tls_bridge_close().
 *
 * EPROTO: TLS failed, for example the certificate is not trusted. ECONNRESET: reset or cut off.
 */
typedef void (*tls_done_fn)(void *data, int error, const char *why);

/*
 * Starts TLS on fd, a connected and non-blocking socket of TCP or UNIX. Takes over fd in any case.
 * Returns 0, and the near end, non-blocking, which the caller owns, or -errno. Bytes written to the
 * near end are sent when the TLS handshake is done.
 */
int tls_bridge_new(struct tls_home *home, int fd, struct tls_context *context, tls_done_fn done,
		   void *data, int *ret_near_fd, struct tls_bridge **ret_bridge);

/*
 * The caller closes the near end, and does not use the bridge any more. With reset the upstream is
 * reset now. Without it, the bridge sends what has been written to the near end, and close_notify,
 * and then closes the connection and frees itself; it gives up after 60 s without progress. NULL is
 * ignored.
 */
void tls_bridge_close(struct tls_bridge *bridge, bool reset);

/*
 * Replaces the callback: the bridge passes from a dial to a session. If the connection has failed
 * already, the new callback is called for that too, from the event loop.
 */
void tls_bridge_set_owner(struct tls_bridge *bridge, tls_done_fn done, void *data);

/* Returns the socket of the upstream, for its options and its state. The bridge keeps it. */
int tls_bridge_fd(const struct tls_bridge *bridge);

/* Returns a text such as "TLSv1.3 TLS_AES_256_GCM_SHA384", or ", resumed" behind that. */
const char *tls_bridge_describe(const struct tls_bridge *bridge, char buf[TLS_WHY_LEN]);

#endif
