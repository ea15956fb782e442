/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * One live connection, as every tool shows it, and the line in which the kernel half prints it.
 *
 * The pinned iterator (bpf/list.bpf.h) prints CONN_ROW_HEADER and then one connection in a line.
 * This line is a contract: tproxy-load(8), FILES, describes the columns. One blank separates two
 * columns. A column without a value holds "-". The command is last.
 */
#ifndef TPROXY_CONN_ROW_H
#define TPROXY_CONN_ROW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tproxy_abi.h"

enum conn_verdict {
	CONN_REDIRECTED = TPROXY_VERDICT_REDIRECTED,
	CONN_DIRECT = TPROXY_VERDICT_DIRECT,
	CONN_OBSERVED = TPROXY_VERDICT_OBSERVED,
	CONN_REFUSED = TPROXY_VERDICT_REFUSED,
	_CONN_VERDICT_MAX = _TPROXY_VERDICT_MAX,
};

/* A rule's name, "line:N" for a rule without a name, or "default". */
#define CONN_ROW_RULE_LEN (TPROXY_RULE_NAME_LEN + 1)
/* Longer names of cgroups are cut. */
#define CONN_ROW_CGROUP_LEN 64

struct conn_row {
	uint64_t id;	    /* cookie of the client's socket; shown by conn_row_id() */
	uint64_t cgroup_id; /* of the process that called connect() */
	uint64_t netns_cookie;
	uint64_t age_ms;     /* since connect() */
	uint64_t started_ns; /* CLOCK_MONOTONIC; 0: not known, the line has the age only */
	uint64_t tx_bytes, rx_bytes;
	uint32_t rtt_us; /* smoothed round trip time, 0 = none was measured */
	uint32_t pid;	 /* thread group id in the initial PID namespace */
	uint32_t uid;
	uint32_t relay_pid; /* of the relay that serves it, 0 = not redirected, or unknown */
	enum conn_verdict verdict;
	uint8_t state; /* TCP_ESTABLISHED, ... of netinet/tcp.h; 0 = unknown */
	bool live;     /* state, bytes and rtt are the socket's; false: only the maps were read */
	struct tproxy_endpoint src;		 /* port 0: not known */
	struct tproxy_endpoint dst;		 /* the original destination */
	char comm[TPROXY_COMM_LEN + 1];		 /* any bytes: escape it before it is printed */
	char rule[CONN_ROW_RULE_LEN];		 /* the rule that decided, "" = none or unknown */
	char upstream[TPROXY_UPSTREAM_NAME_LEN]; /* that the rule names, "" = none; not in lines */
	char cgroup[CONN_ROW_CGROUP_LEN]; /* last part of its path, "" = unknown; any bytes */
};

#define CONN_ROW_HEADER                                                                            \
	"ID PID UID CGROUP_ID NETNS VERDICT STATE SOURCE DESTINATION TX RX RTT_US AGE_MS RELAY "   \
	"RULE CGROUP COMMAND"

/* Longer than the longest line, with its end. */
#define CONN_ROW_LINE_MAX 1024

/*
 * Parses one line without its newline. Returns 0, or -EINVAL; then *ret_row is not changed. The
 * header is not a connection.
 */
int conn_row_parse(const char *line, struct conn_row *ret_row);

/*
 * Set *ret_row from an entry of map_socks, or of an observed connection. @now_ns is
 * monotonic_kernel_ns(). The row is not live, and its rule, upstream, relay and cgroup name are
 * empty.
 */
void conn_row_of_redirected(uint64_t cookie, const struct tproxy_conn *conn, uint64_t now_ns,
			    struct conn_row *ret_row);
void conn_row_of_observed(uint64_t cookie, const struct tproxy_observed *conn, uint64_t now_ns,
			  struct conn_row *ret_row);

/* Writes the id as all programs show it: hexadecimal, without leading zeros. Returns buf. */
#define CONN_ROW_ID_LEN 17
char *conn_row_id(uint64_t id, char buf[CONN_ROW_ID_LEN]);

/* Return "redirected", "direct", "observed" or "refused"; and "established", ..., or "-". */
const char *conn_verdict_name(enum conn_verdict verdict);
const char *conn_state_name(uint8_t state);

/* Finds the verdict of that name. Returns 0 or -EINVAL. */
int conn_verdict_parse(const char *name, enum conn_verdict *ret_verdict);

#endif
