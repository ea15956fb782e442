// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * See observed_end.h. The kernel half reports the TCP state before the end and the error of the
 * socket. Together they tell which side ended the connection. The kernel sets the error before it
 * closes the socket, but a reset that this side sends leaves no error.
 */
#include "observed_end.h"

#include <errno.h>
#include <netinet/tcp.h>

#include "tproxy_abi.h"

/* Returns true if both sides have closed, or this side has and the kernel waits for the other. */
static bool is_closed(const struct tproxy_event *event)
{
	switch (event->state) {
	case TCP_FIN_WAIT2:
		return event->flags & (TPROXY_EVENT_FIN | TPROXY_EVENT_CLOSED);
	case TCP_CLOSING:
	case TCP_LAST_ACK:
		return event->flags & TPROXY_EVENT_ACKED;
	default:
		return false;
	}
}

static struct observed_end established_end(const struct tproxy_event *event)
{
	struct observed_end end = { .measured = true };

	switch (event->error) {
	case 0:
		end.reason = is_closed(event) ? "closed" : "reset by client";
		break;
	case ECONNRESET:
	case EPIPE:
		end.reason = "reset by server";
		break;
	case ECONNABORTED:
		end.reason = "aborted";
		break;
	default:
		end.reason = "timed out";
		end.error = event->error;
	}
	return end;
}

struct observed_end observed_end(const struct tproxy_event *event)
{
	switch (event->state) {
	case TPROXY_EVENT_NOT_SENT:
		return (struct observed_end){ .reason = "not sent" };
	case TPROXY_EVENT_BLOCKED:
		return (struct observed_end){ .reason = "blocked", .error = event->error };
	case TPROXY_EVENT_UNSEEN:
		return (struct observed_end){ .reason = "end not seen" };
	case TCP_SYN_SENT:
	case TCP_SYN_RECV:
		if (!event->error)
			return (struct observed_end){ .reason = "given up", .measured = true };
		return (struct observed_end){
			.reason = "destination failed",
			.error = event->error,
			.measured = true,
		};
	default:
		return established_end(event);
	}
}
