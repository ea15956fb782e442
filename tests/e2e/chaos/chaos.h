/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Clients that do at random all that a client may do to a pending connect(), and their servers:
 *
 *     chaos serve PORT...                                 until SIGTERM
 *     chaos dial COUNT THREADS SEED FIRST_PORT KIND ADDRESS PORT...
 *
 * KIND says what is at this address: "open" or "slow", such a server; "closed", nobody listens;
 * "black", nobody answers. FIRST_PORT is the first of PORTS_SHARED source ports, which some clients
 * share.
 *
 * A client that is connected sends a header, which names the address that it has dialled, and a
 * stream of bytes that follows from a number in it. The server answers with another such stream.
 * Both verify each byte, so a byte that is lost, or is another connection's, is noticed. Each
 * prints what it has counted as JSON, and each error on stderr.
 *
 * stream.c has what both ends know, client.c and server.c are the ends.
 */
#ifndef TPROXY_CHAOS_H
#define TPROXY_CHAOS_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#define STREAM_MAX  16384 /* bytes each way */
#define TARGETS_MAX 32
#define PATIENCE_US 20000000 /* for a call that nothing delays on purpose */
#define MAGIC	    0x74707863686173ULL

enum count {
	CONNECTS, /* calls of connect() */
	REACHED,  /* and everything was exchanged */
	CUT,	  /* the client has reset the connection in the middle */
	REFUSED,
	GIVEN_UP, /* the client has not waited for the end of connect() */
	AGAIN,	  /* of these: its socket was connected again */
	BUSY,	  /* another client has this shared source port */
	UNDONE,	  /* connected and reset, no byte came: see is_undone() */
	REUSED,	  /* the same, from a source port that the kernel has chosen */
	SERVED,	  /* by a server, completely */
	WRONG,
	_COUNT_MAX,
};

union address {
	struct sockaddr sa;
	struct sockaddr_in in;
	struct sockaddr_in6 in6;
};

/* What a client sends first. Both ends are on one machine. */
struct header {
	uint64_t magic;
	uint64_t id;
	uint8_t address[16]; /* that was dialled, IPv4-mapped */
	uint32_t port;
	uint32_t up, down; /* bytes each way */
	uint32_t cut;	   /* the client may end without having sent or read all */
};

void count(enum count what);
/* Counts as WRONG, and prints the first ones. */
__attribute__((format(printf, 1, 2))) void wrong(const char *format, ...);
/* Prints the counts as JSON. Returns the number of WRONG. */
unsigned long print_counts(void);

uint64_t next_random(uint64_t *state);
/* Fills in the bytes that one direction of a connection has. */
void fill_stream(uint8_t *stream, size_t size, uint64_t id, bool down);

/* Returns false if the connection has failed: errno. */
bool write_all(int fd, const void *data, size_t size);
/* Returns how many bytes came before the end. *error is 0 at end of file or if all came. */
size_t read_some(int fd, void *data, size_t size, int *error);
/* Limits the time of each call. */
void set_limit(int fd, unsigned int limit_us);
void map_address(const union address *address, uint8_t mapped[16]);

/* Both return the status of the program. */
int run_server(char **ports, int n);
int run_clients(char **words, int n);

#endif
