// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* tproxy-load. See rules_step.h. */
#include "rules_step.h"

#include <bpf/libbpf.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "escape.h"
#include "log.h"
#include "objects.h"
#include "options.h"
#include "state/pins.h"
#include "state/rules_file.h"
#include "state/rules_view.h"
#include "state/wait_lock.h"
#include "targets.h"
#include "tproxy_abi.h"

int rules_step_compile(const struct load_options *options, const struct targets *targets,
		       struct rules_step *step)
{
	int r;

	if (!*options->rules)
		return 0;
	step->compiled = calloc(1, sizeof(*step->compiled));
	if (!step->compiled) {
		log_err("out of memory");
		return -ENOMEM;
	}
	r = rules_file_compile(options->rules, targets->scopes, targets->n_scopes, step->compiled);
	rules_messages_log(&step->compiled->messages);
	step->file = realpath(options->rules, NULL);
	return r;
}

static struct inner_map_types types_of(const struct bpf_object *object, enum pinned_map_id id)
{
	const struct bpf_map *map = bpf_object__find_map_by_name(object, pinned_maps[id].name);

	return (struct inner_map_types){
		.btf_fd = bpf_object__btf_fd(object),
		.key_id = bpf_map__btf_key_type_id(map),
		.value_id = bpf_map__btf_value_type_id(map),
	};
}

/*
 * Takes back rules that were not confirmed, if the processes that would have done so were killed.
 * A failure is logged, and the load goes on.
 */
static void take_back_abandoned(const struct pins *pins, struct rules_store *store)
{
	if (!store->held || wait_lock_is_held(pins->path, WAIT_LOCK_RULES))
		return;
	log_warning(
		"the rules in force were not confirmed, and the command that waited was killed: they are taken back");
	rules_store_restore(store);
}

int rules_step_run(const struct bpf_object *object, const struct pins *pins,
		   struct rules_step *step)
{
	struct rules_store *store = &step->store;
	int r;

	r = rules_store_open(pins, store);
	if (r < 0)
		return r;
	store->links_later = true; /* links_attach() follows */
	store->rules_types = types_of(object, PINNED_RULES_ACTIVE);
	store->sets_types = types_of(object, PINNED_SETS_ACTIVE);
	take_back_abandoned(pins, store);
	if (!step->compiled)
		return 0;
	/* A load of the host's configuration ends the wait of `tproxyctl rules load --confirm`. */
	if (store->held)
		rules_store_settle(store);
	r = rules_store_replace(store, step->compiled, step->file ? step->file : "");
	if (r < 0)
		rules_store_settle(store);
	else
		step->replaced = true;
	return r;
}

void rules_step_undo(struct rules_step *step)
{
	if (step->replaced)
		rules_store_restore(&step->store);
}

void rules_step_settle(struct rules_step *step)
{
	if (step->replaced)
		rules_store_settle(&step->store);
	step->replaced = false;
}

void rules_step_report(const struct rules_step *step)
{
	const struct tproxy_rules *now = step->store.now;
	char shown[ESCAPE_LEN(sizeof(now->file))];

	if (!now->generation)
		return;
	printf("rules: %zu, %s from '%s', generation %u\n", rules_view_count(now),
	       step->compiled ? "loaded" : "kept, loaded before",
	       escape_text(now->file, strlen(now->file), shown, sizeof(shown)), now->generation);
}

void rules_step_finish(struct rules_step *step)
{
	rules_store_close(&step->store);
	if (step->compiled)
		rules_compiled_finish(step->compiled);
	free(step->compiled);
	free(step->file);
	step->compiled = NULL;
	step->file = NULL;
}
