/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The filter of watch, top, connections and capture: which connections a command shows. Each option
 * may be given several times. A connection passes if, for each option that was given, one of its
 * values fits.
 *
 * The options of these commands fill in the filter with filter_add_*(); filter_prepare() then looks
 * up what the values name, and filter_matches() tests a connection.
 */
#ifndef TPROXY_CTL_FILTER_H
#define TPROXY_CTL_FILTER_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "optable.h"
#include "tproxy_abi.h"

struct conn_row;
struct filter_cgroups;

/* For the --help of commands that show connections. */
#define FILTER_ABOUT                                                                               \
	"FILTER is --pid, --port, --cgroup, --uid, --command, --to or --verdict. A connection\n"   \
	"passes if it fits one value of each option that was given.\n"

/* Values of one option. */
#define FILTER_VALUES_MAX 32

struct filter_ports {
	uint16_t first, last; /* in host byte order */
};

struct conn_filter {
	char commands[FILTER_VALUES_MAX][TPROXY_COMM_LEN + 1];
	size_t n_commands;
	uint32_t pids[FILTER_VALUES_MAX];
	size_t n_pids;
	uint32_t uids[FILTER_VALUES_MAX];
	size_t n_uids;
	const char *cgroups[FILTER_VALUES_MAX]; /* not owned: values of the command line */
	size_t n_cgroups;
	struct filter_ports ports[FILTER_VALUES_MAX];
	size_t n_ports;
	struct tproxy_prefix prefixes[FILTER_VALUES_MAX]; /* of the original destination */
	size_t n_prefixes;
	uint32_t verdicts;	   /* bits: 1 << enum tproxy_verdict; 0: not given */
	uint32_t fates;		   /* bits, see filter_matches_fate(); 0: not given */
	struct filter_cgroups *in; /* owned, set by filter_prepare() */
};

/*
 * For optable_row.set(): add the value of an option. Return 0, or -EINVAL with a message in error.
 *
 *   command  --command NAME     the name of a command, as ps(1) shows it; '*' at its end stands for
 *                               any rest
 *   pid      --pid PID          in the initial PID namespace
 *   uid      --uid USER         a number, or the name of a user
 *   cgroup   --cgroup PATH      in or below this cgroup
 *   port     --port N[-M]       of the destination
 *   to       --to ADDR[/BITS]   the destination
 *   fate     --fate FATE        of a connection that has ended
 *   verdict  --verdict VERDICT  redirected, direct, observed or refused
 */
int filter_add_command(struct conn_filter *filter, const char *value,
		       char error[OPTABLE_ERROR_LEN]);
int filter_add_pid(struct conn_filter *filter, const char *value, char error[OPTABLE_ERROR_LEN]);
int filter_add_uid(struct conn_filter *filter, const char *value, char error[OPTABLE_ERROR_LEN]);
int filter_add_cgroup(struct conn_filter *filter, const char *value, char error[OPTABLE_ERROR_LEN]);
int filter_add_port(struct conn_filter *filter, const char *value, char error[OPTABLE_ERROR_LEN]);
int filter_add_to(struct conn_filter *filter, const char *value, char error[OPTABLE_ERROR_LEN]);
int filter_add_fate(struct conn_filter *filter, const char *value, char error[OPTABLE_ERROR_LEN]);
int filter_add_verdict(struct conn_filter *filter, const char *value,
		       char error[OPTABLE_ERROR_LEN]);

/*
 * Finds the cgroups. Returns 0, or -errno, logged, if there is no such cgroup. The caller calls
 * filter_finish(), also after a failure; a zeroed filter is finished.
 */
int filter_prepare(struct conn_filter *filter);
void filter_finish(struct conn_filter *filter);

/* Returns true if the filter has no option: every connection passes. */
bool filter_is_empty(const struct conn_filter *filter);
/* Returns true if it has no option but --cgroup. */
bool filter_is_of_cgroups(const struct conn_filter *filter);

/*
 * Returns true if a connection passes. Its fate is not tested: a connection that is alive has none.
 * Asks for the path of a cgroup once only, and remembers it.
 */
bool filter_matches(const struct conn_filter *filter, const struct conn_row *row);

/*
 * Returns true if a connection that has ended so passes: @fate is a word of observed_end(), or
 * "refused". Without --fate every fate does.
 */
bool filter_matches_fate(const struct conn_filter *filter, const char *fate);
/* Returns true if --fate failed stands for this fate. */
bool filter_is_failure(const char *fate);

#endif
