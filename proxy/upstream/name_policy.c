// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* See name_policy.h. */
#include "name_policy.h"

#include "names.h"
#include "upstream.h"

/* Calls is() for the upstream, or for each member of the group. True if all of them are. */
static bool all_are(const struct upstreams *set, const struct upstream *upstream,
		    bool (*is)(const struct upstream_conf *conf))
{
	struct upstream *const *members;
	size_t i;

	if (upstream->conf.type != UPSTREAM_GROUP)
		return is(&upstream->conf);
	members = upstreams_members(set, upstream);
	for (i = 0; i < upstream->conf.n_members; i++) {
		if (!is(&members[i]->conf))
			return false;
	}
	return true;
}

static bool resolves(const struct upstream_conf *conf)
{
	return conf->send_name && (conf->type == UPSTREAM_SOCKS5 || conf->type == UPSTREAM_HTTP);
}

static bool ignores_name(const struct upstream_conf *conf)
{
	return !resolves(conf) && conf->proxy_header != PROXY_HEADER_V2;
}

/* True if the connection goes to the name's host whatever its address is. */
static bool hands_on(const struct upstreams *set, const struct upstream *upstream)
{
	return upstream->conf.when_down != UPSTREAM_DOWN_DIRECT && all_are(set, upstream, resolves);
}

bool name_policy_needs_name(const struct upstreams *set, const struct upstream *upstream)
{
	return names_count(set->conf.names) > 0 ||
	       (upstream && !all_are(set, upstream, ignores_name));
}

enum line_result {
	LINE_APPLIES,
	LINE_DOES_NOT,
	LINE_DEPENDS, /* on the address */
};

/* upstream: of the line, NULL for `direct`. */
static enum line_result judge(const struct upstreams *set, const struct names_match *line,
			      const struct upstream *upstream, const struct sniffed *sniffed,
			      enum name_address address)
{
	if (upstream && line->any)
		return LINE_APPLIES;
	if (sniffed->ech && !line->any && !set->conf.sniff_ech)
		return LINE_DOES_NOT;
	if (upstream && !sniffed->ech && hands_on(set, upstream))
		return LINE_APPLIES;
	switch (address) {
	case NAME_ADDRESS_UNKNOWN:
		return LINE_DEPENDS;
	case NAME_ADDRESS_OF_NAME:
		return LINE_APPLIES;
	case NAME_ADDRESS_OTHER:
		break;
	}
	return LINE_DOES_NOT;
}

/* Decides by one line. Returns NAME_VERDICT_NONE if the next one decides. */
static enum name_verdict decide(const struct upstreams *set, const struct names_match *line,
				const struct sniffed *sniffed, enum name_address address,
				struct name_decision *ret)
{
	struct upstream *upstream = NULL;

	if (line->action == NAMES_REFUSE) {
		ret->error = line->error;
		return NAME_VERDICT_REFUSE;
	}
	if (line->action == NAMES_VIA) {
		upstream = upstreams_find(set, line->upstream);
		/* config.c refuses such a line. */
		if (!upstream)
			return NAME_VERDICT_NONE;
	}
	switch (judge(set, line, upstream, sniffed, address)) {
	case LINE_DEPENDS:
		return NAME_VERDICT_ASK;
	case LINE_DOES_NOT:
		return NAME_VERDICT_NONE;
	case LINE_APPLIES:
		break;
	}
	ret->upstream = upstream ? upstream : set->direct;
	return NAME_VERDICT_UPSTREAM;
}

void name_policy(const struct upstreams *set, const struct sniffed *sniffed,
		 enum name_address address, struct name_decision *ret)
{
	struct names_match line = { .next = 0 };

	*ret = (struct name_decision){ .verdict = NAME_VERDICT_NONE };
	do {
		names_find(set->conf.names, sniffed->name, line.next, &line);
		if (line.action == NAMES_NONE)
			return;
		ret->line = line.line;
		ret->verdict = decide(set, &line, sniffed, address, ret);
	} while (ret->verdict == NAME_VERDICT_NONE);
}
