/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The rules in force, for programs that only read them. No lock is needed: rules in force do not
 * change, they are replaced as a whole. Functions return 0 or -errno, not logged.
 */
#ifndef TPROXY_STATE_RULES_VIEW_H
#define TPROXY_STATE_RULES_VIEW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tproxy_abi.h"

struct json_object;

/*
 * Read the rules in force, and open the sets in use, read-only. Root gets what the kernel half
 * uses. Other users get the pins, which lag behind if a load died; the next load repairs them.
 */
int rules_view_read_rules(const char *pin_dir, struct tproxy_rules *ret_rules);
int rules_view_open_sets(const char *pin_dir, uint32_t sets_slot, int *ret_fd);

/* A rule, or the default. */
struct rules_view_rule {
	uint8_t action; /* enum tproxy_rule_action */
	uint8_t protocol;
	uint8_t flags;		      /* enum tproxy_rule_flags */
	uint16_t error;		      /* errno, for TPROXY_RULE_REFUSE */
	struct tproxy_rule_text text; /* name, upstream and text end with a NUL */
	struct tproxy_rule_stat stat; /* of all CPUs: the sum, and the latest */
};

struct rules_view {
	struct tproxy_rules rules; /* generation 0: no rules are loaded; then list is NULL */
	struct rules_view_rule *list;
	size_t n;	  /* rules; list[n] is the default */
	bool unconfirmed; /* the previous rules are kept, see rules_store_hold() */
	bool abandoned;	  /* the same, and no process takes them back, see wait_lock.h */
};

/* The caller calls rules_view_finish(). */
int rules_view_read(const char *pin_dir, struct rules_view *ret_view);
void rules_view_finish(struct rules_view *view);

/*
 * Read the text of a rule or of the default from map_rule_texts, and that of a set from
 * map_set_texts. The strings end with a NUL. rules_view_set_text() returns -ENOENT if these rules
 * have no such set.
 */
int rules_view_rule_text(int texts_fd, uint32_t counter, struct tproxy_rule_text *ret_text);
int rules_view_set_text(int set_texts_fd, const struct tproxy_rules *rules, uint32_t set,
			struct tproxy_set_text *ret_text);

/* Returns the first row of a rule that is not an exception, or NULL. */
const struct tproxy_rule *rules_view_row(const struct tproxy_rules *rules, size_t group);
/* Returns the number of rules, without the default. */
size_t rules_view_count(const struct tproxy_rules *rules);

/* "redirect", "direct", "observe", "refuse", or "?". */
const char *rules_view_action(unsigned int action);
/* "honest", "eager", or NULL if neither is in these enum tproxy_rule_flags. */
const char *rules_view_connect(unsigned int flags);

/* Adds members "unconfirmed" and, if it is true, "abandoned". */
void rules_view_add_unconfirmed(struct json_object *object, const struct rules_view *view);
/* Returns what follows the name of the file in a line about the rules. */
const char *rules_view_unconfirmed(struct json_object *object);

/*
 * Adds member "rules", with generation, number of rules, default and file.
 */
int rules_view_add_summary(struct json_object *root, const char *pin_dir);

#endif
