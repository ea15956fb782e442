/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The health of an upstream, as real dials see it.
 *
 *   UNKNOWN  no dial or check (checks.h) has succeeded, and fewer than HEALTH_FAILURES dials failed
 *   UP       the last dial succeeded, or fewer than HEALTH_FAILURES in a row have failed
 *   DOWN     HEALTH_FAILURES dials in a row have failed; no dial until the back-off is over
 *   TRYING   the back-off is over, and one dial is under way: others go elsewhere. It ends when the
 *            upstream answers, not when the destination does
 *
 * The back-off is HEALTH_BACKOFF_MS at first, doubled by each failed trial up to
 * HEALTH_BACKOFF_MAX_MS, and varies by 25 %, so that hosts do not come back together. A destination
 * that an upstream refuses is no failure: the upstream has answered.
 *
 * All workers share it: everything is atomic, and no function waits or logs. A function that
 * changes the state returns true: its caller logs that once.
 */
#ifndef TPROXY_UPSTREAM_HEALTH_H
#define TPROXY_UPSTREAM_HEALTH_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define HEALTH_FAILURES	      3
#define HEALTH_BACKOFF_MS     1000
#define HEALTH_BACKOFF_MAX_MS 60000
#define HEALTH_WHY_LEN	      64

enum health_state {
	HEALTH_UNKNOWN,
	HEALTH_UP,
	HEALTH_DOWN,
	HEALTH_TRYING,
};

enum health_failure {
	HEALTH_CONNECT,	  /* connect() failed */
	HEALTH_TIMEOUT,	  /* no answer in time */
	HEALTH_NAME,	  /* its host name has no address */
	HEALTH_TLS,	  /* the certificate or the TLS handshake */
	HEALTH_HANDSHAKE, /* the proxy's protocol: broken off, or wrong */
	HEALTH_AUTH,	  /* the proxy refused user or password */
	_HEALTH_FAILURE_MAX,
};

/* Dial times, in microseconds: buckets by the first bound that is not exceeded, then the rest. */
#define HEALTH_BOUNDS 12
extern const uint32_t health_bounds_us[HEALTH_BOUNDS];

struct health {
	_Atomic uint32_t state;	      /* enum health_state */
	_Atomic uint32_t consecutive; /* failures since the last success */
	_Atomic uint64_t since_ms;    /* the state changed; of monotonic_coarse_ms(), 0: never */
	_Atomic uint64_t retry_ms;    /* DOWN: end of the back-off */
	_Atomic uint32_t backoff_ms;
	_Atomic int error;			  /* errno of the last failure */
	_Atomic uint64_t why[HEALTH_WHY_LEN / 8]; /* its text; torn at worst */
	_Atomic uint64_t success_ms;		  /* the last success; 0: none yet */
	_Atomic uint64_t dials;			  /* that have succeeded or failed */
	_Atomic uint64_t failures[_HEALTH_FAILURE_MAX];
	_Atomic uint64_t ewma_us; /* of the time of a successful dial, weight 1/8; 0: none yet */
	_Atomic uint64_t dial_us[HEALTH_BOUNDS + 1], dial_sum_us;
};

/* A copy for reports. */
struct health_snapshot {
	enum health_state state;
	uint64_t since_ms; /* of monotonic_coarse_ms() */
	uint64_t retry_ms;
	uint32_t consecutive;
	int error;		  /* errno of the last failure, or 0 */
	char why[HEALTH_WHY_LEN]; /* of the last failure, or empty */
	uint64_t dials, failed;
	uint64_t failures[_HEALTH_FAILURE_MAX];
	uint64_t ewma_us;
	uint64_t dial_us[HEALTH_BOUNDS + 1], dial_sum_us;
};

enum health_permit {
	HEALTH_REFUSED, /* down */
	HEALTH_ALLOWED,
	HEALTH_IS_TRIAL, /* allowed, and the only one until it ends */
};

/*
 * Asks whether a dial may begin. Each that may is reported to health_succeeded(), health_failed()
 * or health_given_up() at its end.
 */
enum health_permit health_begin(struct health *h, uint64_t now_ms);
/* True if neither a dial nor a check has ended yet. */
bool health_is_unknown(const struct health *h);
/* True if health_begin() would allow a dial. Changes nothing. */
bool health_would_begin(const struct health *h, uint64_t now_ms);

/* The dial took us microseconds; 0: it was no complete dial. Returns true if it ends DOWN. */
bool health_succeeded(struct health *h, uint64_t us, uint64_t now_ms);
/* Returns true if the upstream is DOWN from now on, and was not before. */
bool health_failed(struct health *h, enum health_failure how, int error, const char *why,
		   uint64_t now_ms);
/*
 * The upstream is at work for a dial, which goes on. Returns true if that ends DOWN. It is no
 * success yet: the end of the dial is reported too, and if that is a failure the next back-off is
 * twice as long as the last one.
 */
bool health_answered(struct health *h, uint64_t now_ms);
/*
 * The dial was given up, which says nothing about the upstream; or a trial has taken its time and
 * makes room for another one. It may go on, and then counts as a dial that was allowed.
 */
void health_given_up(struct health *h, enum health_permit permit, uint64_t now_ms);

void health_read(const struct health *h, struct health_snapshot *ret);
/* Return static strings: "unknown", "up", "down", "trying"; "connect", "timeout", ... */
const char *health_state_name(enum health_state state);
const char *health_failure_name(enum health_failure how);

#endif
