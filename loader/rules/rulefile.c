// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Compiles a rule file, see rules.h, in three steps: grammar.c parses the text, resolve.c looks up
 * names and reads list files, compile.c makes the contents of the maps. Only the second step opens
 * files. If a step finds errors, the next step does not run, so each step may rely on the one
 * before.
 */
#include "rules.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "compile.h"
#include "file.h"
#include "grammar.h"
#include "parsed.h"
#include "resolve.h"
#include "source.h"
#include "util.h"

/* 256 rules of 4 KiB. */
#define RULE_FILE_MAX (1024 * 1024)

static int fail(const struct source *source, int error)
{
	if (error == -EFBIG)
		source_error(source, (struct rules_place){}, "larger than %d bytes", RULE_FILE_MAX);
	else if (error != -EINVAL)
		source_error(source, (struct rules_place){}, "%s", strerror(-error));
	return error;
}

int rules_compile_file(const char *path, const struct rules_options *options,
		       struct rules_compiled *ret_compiled)
{
	struct source source = { .file = path, .messages = &ret_compiled->messages };
	_cleanup_free_ char *text = NULL;
	struct parsed parsed = {};
	int r;

	*ret_compiled = (struct rules_compiled){};
	r = file_read(path, RULE_FILE_MAX, /* may_wait= */ true, &text, &source.len);
	if (r < 0)
		/* -EINVAL means an error in the file, not a failure to read it. */
		return fail(&source, r == -EINVAL ? -EIO : r);
	source.text = text;
	r = grammar_parse(&source, &parsed);
	if (r == 0)
		r = resolve_names(&source, options, &parsed);
	if (r == 0)
		r = compile_rules(&source, &parsed, ret_compiled);
	parsed_finish(&parsed);
	return r < 0 ? fail(&source, r) : 0;
}
