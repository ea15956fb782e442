// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * tproxy-load and tproxyctl: the replacement of rules, see rules_store.h. The order is:
 *
 *   counters   give each new rule an index that the rules in force do not use
 *   sets       fill a new trie; write the names of its sets for the slot that is not in use
 *   policy     set TPROXY_RULES_LOOPBACK, if the new rules name a loopback address
 *   links      attach the hooks of UDP, if a new rule is about UDP
 *   pins       pin the new rules and the new trie under second names
 *   slot       put the trie into the slot that is not in use
 *   map_rules  put the new rules into map_rules[0]: from here on they are in force
 *   pins       rename the second names to map_rules_active and map_sets_active
 *   settle     empty the slot that is no longer in use, clear TPROXY_RULES_LOOPBACK, detach the
 *              hooks of UDP, if no rule is about UDP
 *
 * The update of map_rules[0] returns when no program uses the previous rules any more. So the slot
 * that is emptied, and the counters that the next load reuses, have no reader.
 */
#include "rules_store.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "inner_maps.h"
#include "log.h"
#include "maps.h"
#include "monotonic.h"
#include "objects.h"
#include "on_demand.h"
#include "pins.h"
#include "policy.h"
#include "rules/rules.h"
#include "slot_pins.h"
#include "tproxy_abi.h"
#include "util.h"

static int log_error(const struct rules_store *s, const char *what, int r)
{
	log_err("cannot %s in '%s': %s%s", what, s->pins->path, strerror(-r),
		r == -EPERM ? "; this takes CAP_SYS_ADMIN" : "");
	return r;
}

static void remove_staged(const struct rules_store *s)
{
	slot_pins_remove_staged(s->pins, PINNED_RULES_ACTIVE);
	slot_pins_remove_staged(s->pins, PINNED_SETS_ACTIVE);
}

/* Sets or clears TPROXY_RULES_LOOPBACK. */
static int set_loopback(const struct rules_store *s, bool named)
{
	struct tproxy_policy policy;
	__u32 flags;
	int r;

	r = policy_read(s->policy_fd, &policy);
	if (r == 0) {
		flags = policy.flags & ~(__u32)TPROXY_RULES_LOOPBACK;
		if (named)
			flags |= TPROXY_RULES_LOOPBACK;
		if (flags == policy.flags)
			return 0;
		policy.flags = flags;
		r = policy_write(s->policy_fd, &policy);
	}
	return r < 0 ? log_error(s, "write the policy", r) : 0;
}

static int read_inner(int fd, struct tproxy_rules **ret_rules)
{
	_cleanup_free_ struct tproxy_rules *rules = malloc(sizeof(*rules));
	const __u32 key = 0;
	int r;

	if (!rules)
		return -ENOMEM;
	r = bpf_map_lookup_elem(fd, &key, rules);
	if (r < 0)
		return r;
	*ret_rules = TAKE_PTR(rules);
	return 0;
}

static int open_maps(struct rules_store *s)
{
	const struct {
		enum pinned_map_id id;
		int *fd;
	} maps[] = {
		{ PINNED_POLICY, &s->policy_fd },    { PINNED_RULES, &s->rules_fd },
		{ PINNED_SETS, &s->sets_fd },	     { PINNED_RULE_STATS, &s->stats_fd },
		{ PINNED_RULE_TEXTS, &s->texts_fd }, { PINNED_SET_TEXTS, &s->set_texts_fd },
	};
	size_t i;
	int r;

	for (i = 0; i < ARRAY_SIZE(maps); i++) {
		r = maps_open(s->pins->path, maps[i].id, /* writable= */ true, maps[i].fd);
		if (r < 0)
			return r;
	}
	return 0;
}

/*
 * If a load has made map_sets again, because its pin was missing, puts the pinned trie into the
 * slot.
 */
static int open_sets(struct rules_store *s)
{
	int r = slot_pins_open_used(s->pins, s->sets_fd, s->now->sets_slot, PINNED_SETS_ACTIVE,
				    &s->inner_sets_fd);

	if (r != -ENOENT)
		return r;
	r = maps_open(s->pins->path, PINNED_SETS_ACTIVE, /* writable= */ true, &s->inner_sets_fd);
	return r < 0 ? r : inner_map_put(s->sets_fd, s->now->sets_slot, s->inner_sets_fd);
}

/* The pin of the rules goes first: without it, that of their sets means nothing. */
static int remove_previous(const struct rules_store *s)
{
	int r = pins_remove(s->pins, PINNED_PREVIOUS);

	return r < 0 ? r : pins_remove(s->pins, PINNED_PREVIOUS_SETS);
}

/*
 * Opens map_rules_previous. If it uses the same slot as the rules in force, the pin is stale and
 * removed: it holds the rules in force, or the process that held it died after it had put them
 * back.
 */
static int open_previous(struct rules_store *s)
{
	_cleanup_free_ struct tproxy_rules *previous = NULL;
	_cleanup_close_ int fd = -1;
	int r;

	if (!pins_exists(s->pins, PINNED_PREVIOUS))
		return 0;
	r = slot_pins_open_name(s->pins, PINNED_PREVIOUS, &fd);
	if (r == 0)
		r = read_inner(fd, &previous);
	if (r < 0)
		return log_error(s, "open the previous rules", r);
	if (previous->sets_slot == s->now->sets_slot)
		return remove_previous(s);
	s->previous_fd = TAKE_FD(fd);
	s->held = true;
	/* Without the pin rules_store_restore() finds the sets by their slot. */
	r = slot_pins_open_name(s->pins, PINNED_PREVIOUS_SETS, &s->previous_sets_fd);
	return r == -ENOENT || r == 0 ? 0 : log_error(s, "open the previous sets", r);
}

int rules_store_open(const struct pins *pins, struct rules_store *s)
{
	int r;

	s->pins = pins;
	r = open_maps(s);
	if (r < 0)
		return r;
	r = slot_pins_open_used(pins, s->rules_fd, 0, PINNED_RULES_ACTIVE, &s->inner_fd);
	if (r == 0)
		r = read_inner(s->inner_fd, &s->now);
	if (r < 0)
		return log_error(s, "open the rules", r);
	r = open_sets(s);
	if (r < 0)
		return log_error(s, "open the sets of the rules", r);
	r = rule_counters_open(s->stats_fd, s->texts_fd, &s->counters);
	if (r < 0)
		return log_error(s, "read the texts of the rules", r);
	r = open_previous(s);
	if (r == 0 && !s->held)
		rules_store_settle(s);
	return r;
}

void rules_store_close(struct rules_store *s)
{
	int *const fds[] = { &s->policy_fd,   &s->rules_fd,	   &s->sets_fd,	 &s->stats_fd,
			     &s->texts_fd,    &s->set_texts_fd,	   &s->inner_fd, &s->inner_sets_fd,
			     &s->previous_fd, &s->previous_sets_fd };
	size_t i;

	for (i = 0; i < ARRAY_SIZE(fds); i++)
		util_closep(fds[i]);
	rule_counters_close(&s->counters);
	free(s->now);
	*s = (struct rules_store)RULES_STORE_NULL;
}

int rules_store_hold(struct rules_store *s)
{
	int r = slot_pins_pin_as(s->pins, PINNED_PREVIOUS_SETS, PINNED_SETS_ACTIVE,
				 s->inner_sets_fd);

	if (r == 0)
		r = slot_pins_pin_as(s->pins, PINNED_PREVIOUS, PINNED_RULES_ACTIVE, s->inner_fd);
	s->held = r == 0;
	return r;
}

/* Returns a generation above all that were ever in force. */
static uint32_t next_generation(const struct rules_store *s)
{
	const uint32_t named = rule_counters_generation(&s->counters);

	return (named > s->now->generation ? named : s->now->generation) + 1;
}

/* Returns rules for the slot that is not in use, or NULL without memory. */
static struct tproxy_rules *new_rules(const struct rules_store *s, const struct tproxy_rules *from,
				      uint32_t sets_slot)
{
	struct tproxy_rules *next = calloc(1, sizeof(*next));

	if (!next)
		return NULL;
	if (from)
		*next = *from;
	next->generation = from ? next_generation(s) : 0;
	next->sets_slot = sets_slot;
	next->loaded_ns = monotonic_kernel_ns();
	return next;
}

static void close_previous(struct rules_store *s)
{
	util_closep(&s->previous_fd);
	util_closep(&s->previous_sets_fd);
	s->previous_fd = -1;
	s->previous_sets_fd = -1;
}

/*
 * Puts rules and sets into force. After that only the renaming of the pins can fail, which the next
 * run repairs.
 */
static int publish(struct rules_store *s, struct tproxy_rules **next, int *sets_fd)
{
	const bool named = (*next)->needs & TPROXY_NEEDS_LOOPBACK;
	_cleanup_close_ int fd = -1;
	const __u32 key = 0;
	int r;

	r = inner_map_create(s->inner_fd, &s->rules_types, &fd);
	if (r == 0)
		r = bpf_map_update_elem(fd, &key, *next, BPF_ANY);
	if (r < 0)
		return log_error(s, "create a map of rules", r);
	r = named ? set_loopback(s, true) : 0;
	if (r == 0 && (*next)->needs & TPROXY_NEEDS_UDP && !s->links_later)
		r = on_demand_attach(s->pins, HOOK_NEED_UDP);
	if (r == 0)
		r = slot_pins_stage(s->pins, PINNED_RULES_ACTIVE, fd);
	if (r == 0)
		r = slot_pins_stage(s->pins, PINNED_SETS_ACTIVE, *sets_fd);
	if (r < 0)
		return r;
	r = inner_map_put(s->sets_fd, (*next)->sets_slot, *sets_fd);
	if (r == 0)
		r = inner_map_put(s->rules_fd, 0, fd);
	if (r < 0)
		return log_error(s, "replace the rules", r);
	close_previous(s);
	s->previous_fd = TAKE_FD(s->inner_fd);
	s->previous_sets_fd = TAKE_FD(s->inner_sets_fd);
	s->inner_fd = TAKE_FD(fd);
	s->inner_sets_fd = TAKE_FD(*sets_fd);
	free(s->now);
	s->now = TAKE_PTR(*next);
	slot_pins_rename(s->pins, PINNED_RULES_ACTIVE);
	slot_pins_rename(s->pins, PINNED_SETS_ACTIVE);
	return 0;
}

static int create_sets(const struct rules_store *s, int *ret_fd)
{
	int r = inner_map_create(s->inner_sets_fd, &s->sets_types, ret_fd);

	return r < 0 ? log_error(s, "create a map of sets", r) : 0;
}

static int write_set_texts(const struct rules_store *s, const struct rules_compiled *compiled,
			   const struct tproxy_rules *next)
{
	__u32 key = next->sets_slot * TPROXY_SETS_MAX;
	size_t i;
	int r;

	for (i = 0; i < compiled->n_sets; i++, key++) {
		struct tproxy_set_text text = {
			.generation = next->generation,
			.n_prefixes = (__u32)compiled->sets[i].n_prefixes,
		};

		memcpy(text.name, compiled->sets[i].name, sizeof(text.name));
		r = bpf_map_update_elem(s->set_texts_fd, &key, &text, BPF_ANY);
		if (r < 0)
			return log_error(s, "write the names of sets", r);
	}
	return 0;
}

int rules_store_replace(struct rules_store *s, const struct rules_compiled *compiled,
			const char *file)
{
	_cleanup_free_ struct tproxy_rules *next =
		new_rules(s, &compiled->rules, !s->now->sets_slot);
	_cleanup_close_ int sets_fd = -1;
	int r;

	if (!next)
		return log_error(s, "replace the rules", -ENOMEM);
	snprintf(next->file, sizeof(next->file), "%s", file);
	if (compiled->names_loopback)
		next->needs |= TPROXY_NEEDS_LOOPBACK;
	if (compiled->has_udp)
		next->needs |= TPROXY_NEEDS_UDP;
	r = rule_counters_assign(&s->counters, compiled, s->now, next);
	if (r < 0)
		return log_error(s, "write the texts of the rules", r);
	r = create_sets(s, &sets_fd);
	if (r < 0)
		return r;
	r = inner_map_fill(sets_fd, compiled->prefixes, compiled->bits, compiled->n_prefixes);
	if (r < 0)
		return log_error(s, "write the sets", r);
	r = write_set_texts(s, compiled, next);
	if (r == 0)
		r = publish(s, &next, &sets_fd);
	if (r == 0)
		rule_counters_mark(&s->counters, compiled, s->now);
	return r;
}

int rules_store_clear(struct rules_store *s)
{
	_cleanup_free_ struct tproxy_rules *next = new_rules(s, NULL, !s->now->sets_slot);
	_cleanup_close_ int sets_fd = -1;
	int r;

	if (!next)
		return log_error(s, "replace the rules", -ENOMEM);
	r = create_sets(s, &sets_fd);
	return r < 0 ? r : publish(s, &next, &sets_fd);
}

/* Makes the names of the sets of @previous those of @next. */
static int renew_set_texts(const struct rules_store *s, const struct tproxy_rules *previous,
			   const struct tproxy_rules *next)
{
	__u32 key = next->sets_slot * TPROXY_SETS_MAX;
	struct tproxy_set_text text;
	size_t i;
	int r;

	for (i = 0; i < TPROXY_SETS_MAX; i++, key++) {
		r = bpf_map_lookup_elem(s->set_texts_fd, &key, &text);
		if (r == 0 && text.generation == previous->generation) {
			text.generation = next->generation;
			r = bpf_map_update_elem(s->set_texts_fd, &key, &text, BPF_ANY);
		}
		if (r < 0)
			return log_error(s, "write the names of sets", r);
	}
	return 0;
}

int rules_store_restore(struct rules_store *s)
{
	_cleanup_free_ struct tproxy_rules *previous = NULL, *next = NULL;
	_cleanup_close_ int sets_fd = -1;
	int r;

	r = s->previous_fd < 0 ? -ENOENT : read_inner(s->previous_fd, &previous);
	sets_fd = TAKE_FD(s->previous_sets_fd);
	if (r == 0 && sets_fd < 0)
		r = inner_map_open(s->sets_fd, previous->sets_slot, &sets_fd);
	if (r < 0)
		return log_error(s, "open the previous rules", r);
	/*
	 * A new generation: the next load would reuse the old number, and the results cached for
	 * it.
	 */
	next = new_rules(s, previous->generation ? previous : NULL, previous->sets_slot);
	if (!next)
		return log_error(s, "replace the rules", -ENOMEM);
	r = next->generation ? renew_set_texts(s, previous, next) : 0;
	if (r == 0)
		r = publish(s, &next, &sets_fd);
	if (r < 0)
		return r;
	if (s->now->generation)
		rule_counters_mark_restored(&s->counters, s->now, previous->generation);
	rules_store_settle(s);
	return 0;
}

void rules_store_settle(struct rules_store *s)
{
	uint32_t id;
	int r;

	remove_previous(s);
	s->held = false;
	close_previous(s);
	remove_staged(s);
	/* Skip an empty slot: even then the removal would wait for all programs. */
	if (inner_map_id(s->sets_fd, !s->now->sets_slot, &id) != -ENOENT) {
		r = inner_map_remove(s->sets_fd, !s->now->sets_slot);
		if (r < 0)
			log_error(s, "free the sets of the previous rules", r);
	}
	set_loopback(s, s->now->needs & TPROXY_NEEDS_LOOPBACK);
	if (!(s->now->needs & TPROXY_NEEDS_UDP))
		on_demand_detach(s->pins, HOOK_NEED_UDP);
}
