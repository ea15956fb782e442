// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * tproxyctl doctor: the upstreams that rules name. Rules are in the kernel half, upstreams in the
 * configuration of a relay, and neither is checked against the other when it is loaded. Only a
 * relay knows which it has, so each registered one is asked at its admin address.
 *
 * The relays of network namespaces may have different upstreams, on purpose. A name is therefore a
 * finding only if no relay has it, and only if every relay has answered.
 */
#include <errno.h>
#include <json-c/json.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "doctor.h"
#include "host/json.h"
#include "host/namespaces.h"
#include "host/upstreams_answer.h"
#include "monotonic.h"
#include "quote.h"
#include "relay_admin.h"
#include "state/relays.h"
#include "state/rules_view.h"
#include "tproxy_abi.h"
#include "upstream_id.h"
#include "util.h"

/* Returns the name of the upstream that a rule names, or NULL: "direct" needs no configuration. */
static const char *name_of(const struct rules_view_rule *rule)
{
	const char *name = rule->text.upstream;

	return rule->action == TPROXY_RULE_REDIRECT && *name && strcmp(name, UPSTREAM_NAME_DIRECT)
		       ? name
		       : NULL;
}

/*
 * Returns the first rule from the i-th on, or the default (view->n), that names this upstream, or
 * any if NULL; view->n + 1 if there is none.
 */
static size_t find_from(const struct rules_view *view, size_t i, const char *name)
{
	const char *other;

	for (; i <= view->n; i++) {
		other = name_of(&view->list[i]);
		if (other && (!name || strcmp(other, name) == 0))
			break;
	}
	return i;
}

/* Returns the answer of a relay, which the caller frees, or NULL after a finding. */
static struct json_object *ask(struct doctor *d, const struct tproxy_relay *relay)
{
	_cleanup_(json_put) struct json_object *root = NULL;
	_cleanup_free_ char *body = NULL;
	int r = -ETIMEDOUT;

	if (monotonic_kernel_ns() < relay->alive_ns + TPROXY_STALE_NS)
		r = relay_admin_get(relay, UPSTREAMS_ANSWER_DOCUMENT, &body);
	if (r == 0)
		r = upstreams_answer_parse(body, &root);
	if (r == 0)
		return TAKE_PTR(root);
	doctor_add(
		d, DOCTOR_INFO, "upstreams",
		"relay %u cannot be asked which upstreams it has: whether it has those that rules name is unknown",
		relay->pid);
	if (r == -ENOENT)
		doctor_fix(d, "start it with --admin");
	return NULL;
}

/* Returns true if the relay of this answer has the upstream. */
static bool has(struct json_object *answer, const char *name)
{
	struct json_object *list = json_object_object_get(answer, "upstreams");
	size_t i;

	for (i = 0; i < json_object_array_length(list); i++) {
		const char *other = json_get_string(json_object_array_get_idx(list, i), "name");

		if (other && strcmp(other, name) == 0)
			return true;
	}
	return false;
}

/* @i: the first rule that names the upstream. */
static void report(struct doctor *d, const struct rules_view *view, size_t i)
{
	const struct tproxy_rule_text *text = &view->list[i].text;
	char where[PATH_MAX + 64] = "", more[48] = "", before[256];
	size_t n = 0, next;

	for (next = i; next <= view->n; next = find_from(view, next + 1, text->upstream))
		n++;
	if (*view->rules.file)
		snprintf(where, sizeof(where), " (line %u of '%s')", text->line, view->rules.file);
	if (n > 1)
		snprintf(more, sizeof(more), " and of %zu more", n - 1);
	doctor_add(
		d, DOCTOR_ERROR, "upstreams",
		"the upstream '%s' of '%s'%s%s is in the configuration of no registered relay: these connections are reset",
		text->upstream, text->text, where, more);
	snprintf(
		before, sizeof(before),
		"add [upstream %s] to the file of the relay's --config and reload the relay (SIGHUP); "
		"or correct the rule, then: ",
		text->upstream);
	doctor_fix_rules(d, &view->rules, before);
}

/* Reports what no relay has, each name once. */
static void compare(struct doctor *d, const struct rules_view *view, struct json_object **answers,
		    size_t n)
{
	bool good = true;
	size_t i, k;

	for (i = find_from(view, 0, NULL); i <= view->n; i = find_from(view, i + 1, NULL)) {
		const char *name = name_of(&view->list[i]);

		if (find_from(view, 0, name) < i)
			continue;
		for (k = 0; k < n && !has(answers[k], name); k++)
			;
		if (k < n)
			continue;
		report(d, view, i);
		good = false;
	}
	if (good)
		doctor_add(d, DOCTOR_OK, "upstreams",
			   "the upstreams that rules name are in the configuration of a relay");
}

static void ask_all(struct doctor *d, const struct rules_view *view,
		    const struct relays_entry *relays, size_t n)
{
	_cleanup_free_ struct json_object **answers = calloc(n, sizeof(*answers));
	bool all = answers;
	size_t i;

	for (i = 0; i < n && answers; i++) {
		/* A proxy that tproxyctl registered has no upstreams, and ignores the name. */
		if (relays[i].relay.alive_ns)
			answers[i] = ask(d, &relays[i].relay);
		all &= answers[i] != NULL;
	}
	if (all)
		compare(d, view, answers, n);
	for (i = 0; i < n && answers; i++)
		json_object_put(answers[i]);
}

void doctor_upstreams(struct doctor *d)
{
	_cleanup_(rules_view_finish) struct rules_view view = {};
	_cleanup_free_ struct relays_entry *relays = NULL;
	size_t n = 0;

	if (!d->privileged || !d->loaded || !namespaces_is_initial(NAMESPACES_PID) ||
	    rules_view_read(d->pin_dir, &view) < 0 || !view.list ||
	    find_from(&view, 0, NULL) > view.n)
		return;
	view.rules.file[sizeof(view.rules.file) - 1] = '\0';
	if (relays_read_pinned(d->pin_dir, &relays, &n) == 0 && n > 0)
		ask_all(d, &view, relays, n);
}
