/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The facts about a connect(), read from the pins as connect4 and connect6 gather them
 * (bpf/attempt.bpf.h). Reads only: nothing is counted, recorded or swept.
 */
#ifndef TPROXY_CTL_GATHER_H
#define TPROXY_CTL_GATHER_H

#include "block_facts.h"
#include "caller.h"
#include "decide.bpf.h"
#include "objects.h"
#include "parse.h"
#include "rule_facts.h"
#include "state/listener_mark.h"
#include "state/pins.h"
#include "tproxy_abi.h"

struct gather {
	const char *pin_dir;
	const struct caller *caller;
	struct tproxy_policy policy;
	int maps[_PINNED_MAP_MAX]; /* -1: not open yet */
	struct listener_mark programs;
	struct rule_facts_source rules;
	enum pinned_map_id failed_map; /* the map that could not be read last */
	unsigned int n_others;	       /* see direct_others() */
	__u32 other; /* the program of another instance, which has no pins; or 0 */
	/* The upstream that another instance asks for, see TPROXY_MARK_VIA; 0 or empty: none. */
	__u32 advised;
	char advised_name[TPROXY_UPSTREAM_NAME_LEN];
};

/* What is known about one destination. */
struct gathered {
	struct tproxy_endpoint dst;
	int scope_level; /* of the cgroup that the hook is attached to; -1: out of scope */
	int scope_error; /* why the link there cannot be read, -errno; 0: it is attached */
	struct facts facts;
	enum stage n_known;		/* the stages before this one are known */
	int error;			/* why stage n_known is not; 0: it was not needed */
	char scope_link[PINS_LINK_LEN]; /* the pin that scope_error is about */
	struct block_facts block;	/* valid from STAGE_BLOCK on */
	struct rule_found rule;		/* valid from STAGE_RULES on */
	__u32 rule_flags;		/* enum tproxy_rule_flags; valid from STAGE_RULES on */
	/* valid from STAGE_RELAY on */
	struct tproxy_relay relay;
	struct tproxy_endpoint relay_ep; /* the port that connect chooses */
	__u32 mark_flags;		 /* of its listener; valid from STAGE_LISTENER on */
	/* valid from STAGE_ROOM on */
	size_t n_connections;
};

/* Sets all members, and reads nothing. */
void gather_prepare(struct gather *g, const char *pin_dir, const struct caller *caller);
/* The same, and reads the policy. Returns 0 or -errno, logged. The caller calls gather_finish(). */
int gather_init(struct gather *g, const char *pin_dir, const struct caller *caller);
void gather_finish(struct gather *g);

/* Gathers what can be gathered. */
void gather_facts(struct gather *g, const union sockaddr_any *dst, struct gathered *ret);

#endif
