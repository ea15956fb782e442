/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Upstreams: the servers and groups of servers through which connections are sent.
 *
 * struct upstreams_conf is what the configuration says; config.c fills it, a reload makes another
 * one. struct upstreams is the set that sessions use: it is made of a configuration, and does not
 * change. It is counted: a session keeps the set that it began with, so a reload disturbs no dial.
 * An upstream whose configuration is the same in the next set is the same struct upstream there:
 * its health (health.h) and its figures survive.
 *
 * Functions may be called by any thread. The counters inside are atomic.
 */
#ifndef TPROXY_UPSTREAM_H
#define TPROXY_UPSTREAM_H

#include <limits.h>
#include <netinet/in.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/un.h>

#include "health.h"
#include "log.h"
#include "upstream_id.h"

#define UPSTREAM_HOST_LEN    256
#define UPSTREAM_MEMBERS_MAX 16
#define UPSTREAMS_MAX	     64

struct names;
struct resolved;
struct resolver;
struct secret;
struct tls_context;

enum upstream_type {
	UPSTREAM_DIRECT, /* the original destination */
	UPSTREAM_SOCKS5,
	UPSTREAM_HTTP,
	UPSTREAM_TCP, /* an address, without a protocol */
	UPSTREAM_GROUP,
};

enum upstream_order {
	UPSTREAM_FAILOVER,
	UPSTREAM_WEIGHTED,
	UPSTREAM_HASH_CLIENT,
	UPSTREAM_HASH_DESTINATION,
};

enum upstream_when_down {
	UPSTREAM_DOWN_REFUSE,
	UPSTREAM_DOWN_DIRECT,
	UPSTREAM_DOWN_WAIT,
};

enum proxy_header {
	PROXY_HEADER_NONE,
	PROXY_HEADER_V1,
	PROXY_HEADER_V2,
};

/* Port in network byte order. */
union upstream_addr {
	struct sockaddr sa;
	struct sockaddr_in in;
	struct sockaddr_in6 in6;
	struct sockaddr_un un;
};

struct upstream_member {
	char name[UPSTREAM_NAME_LEN];
	uint32_t weight; /* at least 1 */
};

/* A section [upstream NAME]. */
struct upstream_conf {
	char name[UPSTREAM_NAME_LEN];
	uint32_t id; /* upstream_id() of the name */
	enum upstream_type type;
	char host[UPSTREAM_HOST_LEN]; /* a name to resolve; empty: addr is set */
	uint16_t port;		      /* of host, in host byte order */
	union upstream_addr addr;     /* numeric address or UNIX socket */
	bool tls, tls_verify;
	char tls_name[UPSTREAM_HOST_LEN], tls_ca[PATH_MAX];
	char user[256];
	struct secret *secret; /* owned; NULL: no password */
	char password_file[PATH_MAX], password_credential[256];
	bool send_name, proxy_process;
	bool pipeline; /* SOCKS5: send the request with the greeting */
	enum proxy_header proxy_header;
	enum upstream_order order;
	size_t n_members;
	struct upstream_member members[UPSTREAM_MEMBERS_MAX]; /* none of them is a group */
	enum upstream_when_down when_down;
	int down_error; /* 0: none is stated */
	uint64_t down_wait_ms;
	uint64_t check_interval_ms; /* 0: no active checks */
	unsigned int line;	    /* in the file */
	/* Lines of password-file or password-credential, and of tls-ca, else tls; 0: none. */
	unsigned int password_line, tls_line;
	/*
	 * A context that was made from tls_ca before, or NULL. upstreams_new() takes it over.
	 * upstream_conf_finish() does not free it, because it is linked without OpenSSL.
	 */
	struct tls_context *tls_made;
};

struct upstreams_conf {
	struct upstream_conf *list; /* owned, by malloc() */
	size_t n;
	char default_name[UPSTREAM_NAME_LEN]; /* empty: direct */
	bool sniff, sniff_ech;
	uint16_t sniff_ports[16];
	size_t n_sniff_ports;
	struct names *names; /* owned; NULL: no [names] */
};

/* What was sent through an upstream. */
struct upstream_figures {
	_Atomic uint64_t connections;	       /* that run now */
	_Atomic uint64_t total;		       /* that were established */
	_Atomic uint64_t refused;	       /* destinations that the upstream refused */
	_Atomic uint64_t bytes_up, bytes_down; /* of connections that have ended */
};

struct upstream {
	_Atomic uint32_t refs; /* sets that it is in */
	struct upstream_conf conf;
	struct health health;
	struct upstream_figures figures;
	struct resolver *resolver; /* of resolved */
	struct resolved *resolved; /* addresses of conf.host, or NULL */
	struct tls_context *tls;   /* a reference, or NULL */
	_Atomic uint32_t good;	   /* index of the address that answered last */
	struct log_limit failed_log, refused_log;
};

struct upstreams {
	_Atomic uint32_t refs;
	struct upstreams_conf conf; /* without its list */
	struct resolver *resolver;  /* or NULL */
	struct upstream *direct;    /* built in; also found by its id */
	struct upstream *by_default;
	size_t n;
	struct upstream *list[UPSTREAMS_MAX + 1]; /* in the file's order, then direct */
	/* Members of the groups, in the file's order: members[i][j] is that of list[i]. */
	struct upstream *members[UPSTREAMS_MAX + 1][UPSTREAM_MEMBERS_MAX];
};

/*
 * Makes a set with one reference. Takes over what conf owns in any case, and leaves *conf empty.
 * before: the set that this one replaces, or NULL. resolver: outlives all sets; NULL if no upstream
 * has a host name. Returns 0 or -errno, logged.
 */
int upstreams_new(struct upstreams_conf *conf, struct resolver *resolver,
		  const struct upstreams *before, struct upstreams **ret_set);
/* Both ignore NULL. The last reference frees the set. */
struct upstreams *upstreams_ref(struct upstreams *set);
void upstreams_unref(struct upstreams *set);

/* Free what conf owns. */
void upstream_conf_finish(struct upstream_conf *conf);
void upstreams_conf_finish(struct upstreams_conf *conf);

/* Returns the upstream with this id, or NULL. The id 0 is the default upstream. */
struct upstream *upstreams_find(const struct upstreams *set, uint32_t id);
/* Returns the members of a group, conf.n_members of them. */
struct upstream *const *upstreams_members(const struct upstreams *set,
					  const struct upstream *group);

/*
 * Sets ret to the addresses of an upstream that is no group and not direct, beginning with the one
 * with the index first, and returns their number, at most max: 0 while its name has none. A caller
 * that tries one after the other keeps first: upstream_good_address() may change meanwhile.
 */
size_t upstream_addresses(const struct upstream *u, uint32_t first, union upstream_addr *ret,
			  size_t max);
/*
 * Sets why to the reason why the name of an upstream has no address, for the log. Returns 0, or
 * -EINPROGRESS while the name is asked for the first time.
 */
int upstream_why_no_address(const struct upstream *u, char *why, size_t why_size);
/* Returns the index of the address that answered last. */
uint32_t upstream_good_address(const struct upstream *u);
/*
 * True if it has addresses of its own, whose failures are counted. The health of a group is that of
 * its members, and `direct` is the destination itself.
 */
bool upstream_has_health(const struct upstream *u);
/* The address has answered: others begin with it from now on. */
void upstream_note_address(struct upstream *u, const union upstream_addr *addr);

/*
 * Report the end of a dial or a check to the health of an upstream, and log a change of its state.
 * us: see health_succeeded(). Direct upstreams have no health.
 */
void upstream_note_success(struct upstream *u, uint64_t us);
/* The same for an answer, after which the dial goes on: see health_answered(). */
void upstream_note_answer(struct upstream *u);
void upstream_note_failure(struct upstream *u, enum health_failure how, int error, const char *why);

/* True if an upstream of the set is reached over TLS. */
bool upstreams_have_tls(const struct upstreams *set);

/* Returns the length for connect(2). */
socklen_t upstream_addr_len(const union upstream_addr *addr);
/* "192.0.2.8:3128", "[2001:db8::1]:3128", "/run/proxy.socket". Returns buf. */
#define UPSTREAM_ADDR_TEXT_LEN 112
char *upstream_addr_text(const union upstream_addr *addr, char buf[UPSTREAM_ADDR_TEXT_LEN]);

#endif
