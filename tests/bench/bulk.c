/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * See bulk.h. The side that receives compares each byte with the pattern. In both directions the
 * client ends a stream with FIN. The server's last bytes are a struct bulk_end, whose count must be
 * the client's. A connection with pieces is just closed: each piece has its size.
 */
#include "bulk.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "client.h"
#include "pattern.h"

/* Both ends must have counted the same number of bytes, and every byte must have been correct. */
static void check_end(struct client *c, const struct bulk_end *end)
{
	if (end->bytes != c->bytes)
		client_fail(c, "the client has counted %llu bytes, the server %llu",
			    (unsigned long long)c->bytes, (unsigned long long)end->bytes);
	else if (!end->intact)
		client_fail(c, "the server has received wrong bytes");
}

static void send_pattern(struct client *c, int fd)
{
	uint64_t until = client_now_ns() + c->options->seconds * NS_PER_SECOND;
	struct bulk_end end;

	while (client_now_ns() < until) {
		ssize_t n = send(fd, pattern_at(c->bytes), PATTERN_CHUNK, MSG_NOSIGNAL);

		if (n < 0) {
			client_fail_errno(c, "send");
			return;
		}
		c->bytes += (uint64_t)n;
		client_progress(c, (uint64_t)n);
	}
	shutdown(fd, SHUT_WR);
	if (client_receive(c, fd, &end, sizeof(end)) == 0)
		check_end(c, &end);
}

/*
 * Sends FIN when the time is up, then reads to EOF. The last bytes are a bulk_end and not a part of
 * the pattern, so the last sizeof(struct bulk_end) bytes are always kept at the start of the
 * buffer.
 */
static void receive_pattern(struct client *c, int fd)
{
	uint64_t until = client_now_ns() + c->options->seconds * NS_PER_SECOND;
	bool told = false;
	size_t kept = 0;

	for (;;) {
		ssize_t n = recv(fd, c->buffer + kept, sizeof(c->buffer) - kept, 0);
		size_t ready;

		if (n < 0) {
			client_fail_errno(c, "recv");
			return;
		}
		if (n == 0)
			break;
		client_progress(c, (uint64_t)n);

		kept += (size_t)n;
		ready = kept > sizeof(struct bulk_end) ? kept - sizeof(struct bulk_end) : 0;
		if (!pattern_matches(c->buffer, ready, c->bytes)) {
			client_fail(c, "a wrong byte after %llu right ones",
				    (unsigned long long)c->bytes);
			return;
		}
		c->bytes += ready;
		kept -= ready;
		memmove(c->buffer, c->buffer + ready, kept);

		if (!told && client_now_ns() >= until) {
			shutdown(fd, SHUT_WR);
			told = true;
		}
	}
	if (!told || kept != sizeof(struct bulk_end)) {
		client_fail(c, "end of file too early");
		return;
	}
	check_end(c, (const struct bulk_end *)c->buffer);
}

/* Connects, tells the server what to do, and runs the transfer. */
static void run_transfer(struct client *c, enum op op, void (*transfer)(struct client *c, int fd))
{
	const unsigned char first = (unsigned char)op;
	int fd = client_connect(c);

	if (fd < 0)
		return;
	if (send(fd, &first, sizeof(first), MSG_NOSIGNAL) != sizeof(first))
		client_fail_errno(c, "send");
	else
		transfer(c, fd);
	close(fd);
}

void bulk_up(struct client *c)
{
	run_transfer(c, OP_UP, send_pattern);
}

void bulk_down(struct client *c)
{
	run_transfer(c, OP_DOWN, receive_pattern);
}

static int send_piece(struct client *c, int fd, uint64_t size, uint64_t *offset)
{
	while (size > 0) {
		size_t chunk = size < PATTERN_CHUNK ? (size_t)size : PATTERN_CHUNK;
		ssize_t n = send(fd, pattern_at(*offset), chunk, MSG_NOSIGNAL);

		if (n < 0)
			return client_fail_errno(c, "send");
		*offset += (uint64_t)n;
		size -= (uint64_t)n;
	}
	return 0;
}

static int receive_piece(struct client *c, int fd, uint64_t size, uint64_t *offset)
{
	while (size > 0) {
		size_t room = size < sizeof(c->buffer) ? (size_t)size : sizeof(c->buffer);
		ssize_t n = recv(fd, c->buffer, room, 0);

		if (n < 0)
			return client_fail_errno(c, "recv");
		if (n == 0)
			return client_fail(c, "end of file too early");
		if (!pattern_matches(c->buffer, (size_t)n, *offset))
			return client_fail(c, "a wrong byte after %llu right ones",
					   (unsigned long long)*offset);
		*offset += (uint64_t)n;
		size -= (uint64_t)n;
	}
	return 0;
}

int bulk_piece(struct client *c, int fd, uint64_t up, uint64_t down, struct bulk_offsets *offsets)
{
	const struct bulk_piece piece = { .up = up, .down = down };
	unsigned char request[1 + sizeof(piece)] = { OP_PIECES };
	const size_t skipped = offsets->down > 0 ? 1 : 0;
	const size_t size = sizeof(request) - skipped;

	memcpy(request + 1, &piece, sizeof(piece));
	if (send(fd, request + skipped, size, MSG_NOSIGNAL) != (ssize_t)size)
		return client_fail_errno(c, "send");
	if (send_piece(c, fd, up, &offsets->up) < 0 ||
	    receive_piece(c, fd, down, &offsets->down) < 0)
		return -1;
	client_progress(c, up + down);
	return 0;
}
