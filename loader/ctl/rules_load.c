// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * tproxyctl rules load, unload, confirm and revert. See rules.h. The work is done by
 * state/rules_store.c, under the lock of the pin directory. While a load waits for confirmation the
 * lock is free, and further loads are refused.
 */
#include "rules.h"

#include <errno.h>
#include <json-c/json.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "confirm.h"
#include "host/json.h"
#include "log.h"
#include "options.h"
#include "quote.h"
#include "rules/rules.h"
#include "state/maps.h"
#include "state/pins.h"
#include "state/rules_file.h"
#include "state/rules_store.h"
#include "state/rules_view.h"
#include "state/wait_lock.h"
#include "util.h"

/* The rules in force, with the directory locked. */
struct work {
	struct pins pins;
	struct rules_store store;
};

#define WORK_NULL                                                                                  \
	{                                                                                          \
		.pins = PINS_NULL, .store = RULES_STORE_NULL                                       \
	}

static int work_begin(const char *pin_dir, struct work *work)
{
	uint32_t version;
	int r;

	r = maps_check_abi(pin_dir, &version);
	if (r == 0)
		r = pins_open(pin_dir, /* create= */ false, &work->pins);
	if (r == -ENOENT)
		log_err(MAPS_NOT_LOADED, pin_dir);
	return r < 0 ? r : rules_store_open(&work->pins, &work->store);
}

/* As work_begin(). Fails if no rules wait for confirmation. */
static int work_begin_held(const char *pin_dir, struct work *work)
{
	int r;

	r = work_begin(pin_dir, work);
	if (r == 0 && !work->store.held) {
		log_err("no rules wait for confirmation");
		r = -ENOENT;
	}
	return r;
}

static void work_end(struct work *work)
{
	rules_store_close(&work->store);
	pins_close(&work->pins);
}

static void print_loaded(const struct ctl_options *options, const struct rules_compiled *compiled,
			 uint32_t generation, bool in_force)
{
	_cleanup_(json_put) struct json_object *root = NULL;

	if (!options->json) {
		printf("loaded %zu rules in %u rows, and %zu sets with %zu prefixes; generation %u, default %s\n",
		       compiled->n_rules, compiled->rules.n_rows, compiled->n_sets,
		       compiled->n_prefixes, generation,
		       rules_view_action(compiled->rules.default_action));
		return;
	}
	root = json_new_document();
	json_add_number(root, "generation", generation);
	json_add_number(root, "count", compiled->n_rules);
	json_add_number(root, "rows", compiled->rules.n_rows);
	json_add_number(root, "sets", compiled->n_sets);
	json_add_number(root, "prefixes", compiled->n_prefixes);
	json_add_bool(root, "in_force", in_force);
	json_print(root);
}

static int log_held(const char *pin_dir)
{
	char quoted[SHELL_QUOTE_LEN(PATH_MAX)];

	shell_quote(pin_dir, quoted, sizeof(quoted));
	log_err("the rules in force wait for confirmation; first run: tproxyctl rules confirm -p %s, or: tproxyctl rules revert -p %s",
		quoted, quoted);
	return -EBUSY;
}

/*
 * Ends an earlier load that was not confirmed: takes its rules back if the processes that would
 * have done so were killed, and refuses if one of them waits.
 */
static int end_held(const char *pin_dir, struct rules_store *store)
{
	if (!store->held)
		return 0;
	if (wait_lock_is_held(pin_dir, WAIT_LOCK_RULES))
		return log_held(pin_dir);
	log_warning(
		"the rules in force were not confirmed, and the command that waited was killed: they are taken back first");
	return rules_store_restore(store);
}

static bool is_held(const char *pin_dir)
{
	const struct pins pins = { .path = pin_dir, .fd = -1 };
	char path[PATH_MAX];

	return pins_path(&pins, PINNED_PREVIOUS, path) == 0 && access(path, F_OK) == 0;
}

static uint32_t generation_in_force(const char *pin_dir)
{
	struct tproxy_rules rules;

	return rules_view_read_rules(pin_dir, &rules) == 0 ? rules.generation : 0;
}

/*
 * True if the rules in force are those of this load. A guard whose parent died early does not know
 * their generation. Then no other process waits for its own load; for the load of another process,
 * that process waits.
 */
static bool is_ours(const struct confirm *c, const struct rules_store *store)
{
	if (c->generation)
		return store->now->generation == c->generation;
	return !store->held || !wait_lock_is_held(c->pin_dir, WAIT_LOCK_RULES);
}

/* As confirm_kind.finish(). */
static int finish(const struct confirm *c, bool keep)
{
	struct rules_store store = RULES_STORE_NULL;
	struct pins pins = PINS_NULL;
	bool ours;
	int r;

	r = pins_open(c->pin_dir, /* create= */ false, &pins);
	if (r == -ENOENT)
		return 2;
	if (r == 0)
		r = rules_store_open(&pins, &store);
	if (r == 0) {
		ours = is_ours(c, &store);
		if (!ours || !store.held)
			r = ours ? 1 : 2;
		else if (keep)
			rules_store_settle(&store);
		else
			r = rules_store_restore(&store);
	}
	rules_store_close(&store);
	pins_close(&pins);
	return r;
}

static const struct confirm_kind confirm_rules = {
	.what = "the rules",
	.are = "are",
	.them = "them",
	.previous = "the previous rules are",
	.keep = "tproxyctl rules confirm",
	.revert = "tproxyctl rules revert",
	.pin = WAIT_LOCK_RULES,
	.is_held = is_held,
	.generation = generation_in_force,
	.finish = finish,
};

/* Replaces the rules. With --confirm the previous rules are kept. */
static int replace(const struct ctl_options *options, const struct rules_compiled *compiled,
		   const char *file, struct confirm *confirm, uint32_t *ret_generation)
{
	_cleanup_(work_end) struct work work = WORK_NULL;
	int r;

	r = work_begin(options->pin_dir, &work);
	if (r == 0)
		r = end_held(options->pin_dir, &work.store);
	if (r < 0)
		return r;
	if (confirm) {
		r = confirm_own(confirm, work.store.now->generation);
		if (r == 0)
			r = rules_store_hold(&work.store);
	}
	if (r == 0)
		r = rules_store_replace(&work.store, compiled, file);
	if (r == 0 && confirm)
		confirm_in_force(confirm, work.store.now->generation);
	if (r < 0 || !confirm)
		rules_store_settle(&work.store);
	*ret_generation = work.store.now->generation;
	return r;
}

static int load_confirmed(const struct ctl_options *options, const struct rules_compiled *compiled,
			  const char *file)
{
	struct confirm confirm;
	uint32_t generation = 0;
	int r;

	r = confirm_begin(&confirm_rules, options->pin_dir, options->confirm_ms, &confirm);
	if (r == 0)
		r = replace(options, compiled, file, &confirm, &generation);
	if (r == 0) {
		confirm_unlocked(&confirm);
		if (!options->json)
			print_loaded(options, compiled, generation, /* in_force= */ true);
		fflush(stdout);
		r = confirm_wait(&confirm);
		if (options->json)
			print_loaded(options, compiled, generation, /* in_force= */ r <= 0);
	}
	confirm_end(&confirm);
	return r;
}

static int load_compiled(const struct ctl_options *options, const struct rules_compiled *compiled)
{
	_cleanup_free_ char *real = realpath(options->file, NULL);
	const char *file = real ? real : options->file;
	uint32_t generation = 0;
	int r;

	if (options->confirm_ms)
		return load_confirmed(options, compiled, file);
	r = replace(options, compiled, file, /* confirm= */ NULL, &generation);
	if (r == 0)
		print_loaded(options, compiled, generation, /* in_force= */ true);
	return r;
}

int rules_load(const struct ctl_options *options)
{
	struct rules_compiled compiled = {};
	int r;

	r = rules_file_compile_loaded(options->file, options->pin_dir, &compiled);
	rules_messages_print(&compiled.messages, stderr);
	if (r == 0)
		r = load_compiled(options, &compiled);
	rules_compiled_finish(&compiled);
	return r ? EXIT_FAILURE : EXIT_SUCCESS;
}

int rules_unload(const struct ctl_options *options)
{
	_cleanup_(work_end) struct work work = WORK_NULL;
	int r;

	r = work_begin(options->pin_dir, &work);
	if (r < 0)
		return EXIT_FAILURE;
	if (work.store.held)
		rules_store_settle(&work.store);
	if (!work.store.now->generation) {
		printf("no rules are loaded\n");
		return EXIT_SUCCESS;
	}
	r = rules_store_clear(&work.store);
	rules_store_settle(&work.store);
	if (r < 0)
		return EXIT_FAILURE;
	printf("unloaded: no rules are in force\n");
	return EXIT_SUCCESS;
}

int rules_confirm(const struct ctl_options *options)
{
	_cleanup_(work_end) struct work work = WORK_NULL;

	if (work_begin_held(options->pin_dir, &work) < 0)
		return EXIT_FAILURE;
	rules_store_settle(&work.store);
	printf("confirmed: generation %u stays\n", work.store.now->generation);
	return EXIT_SUCCESS;
}

int rules_revert(const struct ctl_options *options)
{
	_cleanup_(work_end) struct work work = WORK_NULL;

	if (work_begin_held(options->pin_dir, &work) < 0)
		return EXIT_FAILURE;
	if (rules_store_restore(&work.store) < 0)
		return EXIT_FAILURE;
	printf("taken back: the previous rules are in force again\n");
	return EXIT_SUCCESS;
}
