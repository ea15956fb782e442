// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * tproxyctl rules check. See rules.h. Compiles a file as a load does, and loads nothing. Errors and
 * notes go to stderr as compilers print them, without the program's name, so that editors find the
 * place; with --json they are in the document too.
 */
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>

#include "host/json.h"
#include "options.h"
#include "rules.h"
#include "rules/rules.h"
#include "util.h"

static void add_messages(struct json_object *to, const struct rules_message *list, size_t n)
{
	struct json_object *object;
	size_t i;

	for (i = 0; i < n && i < RULES_MESSAGES_MAX; i++) {
		object = json_object_new_object();
		json_add_string(object, "level", list[i].is_note ? "note" : "error");
		json_add_string(object, "file", list[i].file ? list[i].file : "");
		json_add_number(object, "line", list[i].at.line);
		json_add_number(object, "column", list[i].at.column);
		json_add_string(object, "text", list[i].text ? list[i].text : "");
		json_object_array_add(to, object);
	}
}

static struct json_object *rule_object(const struct rules_rule *rule)
{
	struct json_object *object = json_object_new_object();

	if (*rule->name)
		json_add_string(object, "name", rule->name);
	if (*rule->upstream)
		json_add_string(object, "upstream", rule->upstream);
	if (rule->line)
		json_add_number(object, "line", rule->line);
	json_add_string(object, "text", rule->text);
	return object;
}

/* Adds the members that only a file without errors has. */
static void add_contents(struct json_object *to, const struct rules_compiled *compiled)
{
	struct json_object *rules = json_object_new_array(), *sets = json_object_new_array();
	struct json_object *object;
	size_t i;

	for (i = 0; i < compiled->n_rules; i++) {
		object = rule_object(&compiled->list[i]);
		json_add_number(object, "number", i + 1);
		json_add_number(object, "rows", compiled->list[i].n_rows);
		json_object_array_add(rules, object);
	}
	for (i = 0; i < compiled->n_sets; i++) {
		object = json_object_new_object();
		json_add_string(object, "name", compiled->sets[i].name);
		json_add_number(object, "line", compiled->sets[i].line);
		json_add_number(object, "prefixes", compiled->sets[i].n_prefixes);
		json_object_array_add(sets, object);
	}
	json_object_object_add(to, "rules", rules);
	json_object_object_add(to, "default", rule_object(&compiled->by_default));
	json_object_object_add(to, "sets", sets);
	json_add_number(to, "rows", compiled->rules.n_rows);
	json_add_number(to, "rows_max", TPROXY_RULES_MAX);
	json_add_number(to, "prefixes", compiled->n_prefixes);
	json_add_bool(to, "names_loopback", compiled->names_loopback);
	json_add_bool(to, "has_udp", compiled->has_udp);
}

static void print_json(const char *file, const struct rules_compiled *compiled, bool valid)
{
	_cleanup_(json_put) struct json_object *root = json_new_document();
	struct json_object *messages = json_object_new_array();

	json_add_string(root, "file", file);
	json_add_bool(root, "valid", valid);
	add_messages(messages, compiled->messages.notes, compiled->messages.n_notes);
	add_messages(messages, compiled->messages.errors, compiled->messages.n_errors);
	json_object_object_add(root, "messages", messages);
	if (valid)
		add_contents(root, compiled);
	json_print(root);
}

static void print_tables(const struct rules_compiled *compiled)
{
	size_t i;

	printf("\n%5s %5s  %s\n", "LINE", "ROWS", "RULE");
	for (i = 0; i < compiled->n_rules; i++)
		printf("%5u %5u  %s\n", compiled->list[i].line, compiled->list[i].n_rows,
		       compiled->list[i].text);
	printf("%5s %5s  %s\n", "", "", compiled->by_default.text);
	if (compiled->n_sets)
		printf("\n%5s %8s  %s\n", "LINE", "PREFIXES", "SET");
	for (i = 0; i < compiled->n_sets; i++)
		printf("%5u %8zu  %s\n", compiled->sets[i].line, compiled->sets[i].n_prefixes,
		       compiled->sets[i].name);
}

int rules_check(const struct ctl_options *options)
{
	const struct rules_options how = { .no_resolve = options->no_resolve };
	_cleanup_(rules_compiled_finish) struct rules_compiled compiled = {};
	const bool valid = rules_compile_file(options->file, &how, &compiled) == 0;

	rules_messages_print(&compiled.messages, stderr);
	if (options->json) {
		print_json(options->file, &compiled, valid);
	} else if (valid) {
		printf("%s: %zu rules, %u rows of %d, %zu sets, %zu prefixes\n", options->file,
		       compiled.n_rules, compiled.rules.n_rows, TPROXY_RULES_MAX, compiled.n_sets,
		       compiled.n_prefixes);
		if (options->verbose)
			print_tables(&compiled);
	}
	return valid ? EXIT_SUCCESS : EXIT_FAILURE;
}
