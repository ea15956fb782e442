/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * tproxy-load: the step that loads rules (--rules). Without that option the rules in force stay,
 * and a replacement that a dead process left unfinished is completed. Functions return 0 or -errno,
 * logged.
 */
#ifndef TPROXY_LOAD_RULES_STEP_H
#define TPROXY_LOAD_RULES_STEP_H

#include <stdbool.h>

#include "rules/rules.h"
#include "state/rules_store.h"

struct bpf_object;
struct load_options;
struct pins;
struct targets;

struct rules_step {
	struct rules_compiled *compiled; /* owned; NULL: no --rules */
	char *file;			 /* absolute, owned */
	struct rules_store store;
	bool replaced;
};

#define RULES_STEP_NULL                                                                            \
	{                                                                                          \
		.store = RULES_STORE_NULL                                                          \
	}

/* Compiles the file of --rules, if there is one, for these scopes. Changes nothing. */
int rules_step_compile(const struct load_options *options, const struct targets *targets,
		       struct rules_step *step);
/* Puts the rules into force. The policy must be written. */
int rules_step_run(const struct bpf_object *object, const struct pins *pins,
		   struct rules_step *step);
/* Puts the previous rules back after a later step has failed. */
void rules_step_undo(struct rules_step *step);
/* Frees the previous rules. Called after the last step that can fail. */
void rules_step_settle(struct rules_step *step);
/* Prints which rules are in force, if any. */
void rules_step_report(const struct rules_step *step);
void rules_step_finish(struct rules_step *step);

#endif
