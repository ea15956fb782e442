// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * See config.h. config_keys.c has the keys of [upstream NAME], and reads their values.
 *
 * What a message about two sections or two keys needs, such as the line of a key, is in the reader
 * and ends with it. upstream_reader_check() runs a list of checks on each upstream.
 */
#include "config.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config_keys.h"
#include "log.h"
#include "names.h"
#include "optable.h"
#include "secret.h"
#include "upstream.h"
#include "upstream_id.h"

_Static_assert(OPTABLE_ERROR_LEN == CONFIGFILE_ERROR_LEN, "one message for both");
_Static_assert(OPTABLE_ERROR_LEN == SECRET_ERROR_LEN, "one message for both");
_Static_assert(OPTABLE_ERROR_LEN == NAMES_ERROR_LEN, "one message for both");

/* A section under way, or read. */
struct seen {
	uint32_t given; /* bit n: upstream_keys[n] was given */
	uint32_t wrong; /* and is wrong, which was reported */
	unsigned int lines[_KEY_MAX];
};

struct upstream_reader {
	struct upstreams_conf *conf;
	struct seen seen[UPSTREAMS_MAX]; /* by index of conf->list */
	struct upstream_conf *section;	 /* NULL: [names], or a section that was refused */
	bool in_names;
	bool refused; /* a section was refused: the names that exist are not all known */
};

struct upstream_reader *upstream_reader_create(struct upstreams_conf *conf)
{
	struct upstream_reader *reader = calloc(1, sizeof(*reader));

	if (!reader)
		return NULL;
	reader->conf = conf;
	return reader;
}

void upstream_reader_destroy(struct upstream_reader *reader)
{
	free(reader);
}

static const struct upstream_conf *find(const struct upstreams_conf *conf, const char *name)
{
	size_t i;

	for (i = 0; i < conf->n; i++) {
		if (strcmp(conf->list[i].name, name) == 0)
			return &conf->list[i];
	}
	return NULL;
}

bool upstream_config_has(const struct upstreams_conf *conf, const char *name)
{
	return strcmp(name, UPSTREAM_NAME_DIRECT) == 0 || find(conf, name);
}

/* Refuses the name of a section. Returns 0 if it is good. */
static int check_name(const struct upstreams_conf *conf, const char *name,
		      char error[CONFIGFILE_ERROR_LEN])
{
	const struct upstream_conf *other;
	uint32_t id;
	size_t i;

	if (!*name)
		return optable_refuse(error, "the section has no name; write [upstream NAME]");
	if (!upstream_name_is_valid(name, strlen(name)))
		return optable_refuse(
			error,
			"'%s' is not the name of an upstream: 1 to %d letters, digits, '-' and '_'",
			name, UPSTREAM_NAME_LEN - 1);
	if (strcmp(name, UPSTREAM_NAME_DIRECT) == 0)
		return optable_refuse(error, "the upstream '%s' is built in; choose another name",
				      name);
	other = find(conf, name);
	if (other)
		return optable_refuse(error, "[upstream %s] is given twice, first in line %u", name,
				      other->line);
	id = upstream_id(name);
	if (id == upstream_id(UPSTREAM_NAME_DIRECT))
		return optable_refuse(error, "'%s' has the same id as '%s'; choose another name",
				      name, UPSTREAM_NAME_DIRECT);
	for (i = 0; i < conf->n; i++) {
		if (conf->list[i].id == id)
			return optable_refuse(
				error,
				"'%s' has the same id as '%s' in line %u; choose another name",
				name, conf->list[i].name, conf->list[i].line);
	}
	return 0;
}

int upstream_reader_begin(struct upstream_reader *reader, const char *section, const char *name,
			  unsigned int line, char error[CONFIGFILE_ERROR_LEN])
{
	struct upstreams_conf *conf = reader->conf;
	int r;

	reader->section = NULL;
	reader->in_names = !name;
	if (reader->in_names)
		return 0;
	r = check_name(conf, name, error);
	if (r == 0 && conf->n == UPSTREAMS_MAX)
		r = optable_refuse(error, "there are more than %d upstreams", UPSTREAMS_MAX);
	if (r == 0 && !conf->list) {
		conf->list = calloc(UPSTREAMS_MAX, sizeof(*conf->list));
		r = conf->list ? 0 : optable_refuse(error, "out of memory");
	}
	if (r < 0) {
		reader->refused = true;
		return r;
	}
	reader->section = &conf->list[conf->n++];
	*reader->section = (struct upstream_conf){
		.id = upstream_id(name),
		.tls_verify = true,
		.line = line,
	};
	strcpy(reader->section->name, name);
	return 0;
}

int upstream_reader_set(struct upstream_reader *reader, const char *key, const char *value,
			unsigned int line, char error[CONFIGFILE_ERROR_LEN])
{
	struct seen *seen;
	size_t i;
	int r;

	if (reader->in_names)
		return names_parse_line(&reader->conf->names, line, key, value, error);
	if (!reader->section)
		return 0;
	seen = &reader->seen[reader->section - reader->conf->list];
	for (i = 0; i < _KEY_MAX && strcmp(key, upstream_keys[i].row.name) != 0; i++)
		;
	if (i == _KEY_MAX)
		return optable_refuse(error, "unknown key");
	if (seen->given & (1U << i))
		return optable_refuse(error, "given twice, first in line %u", seen->lines[i]);
	seen->given |= 1U << i;
	seen->lines[i] = line;
	r = optable_set(&upstream_keys[i].row, reader->section, value, line, error);
	if (r < 0)
		seen->wrong |= 1U << i;
	return r;
}

/* Keeps the lines of keys that name files, which are read when the reader is gone. */
static void keep_lines(struct upstream_conf *conf, const struct seen *seen)
{
	const unsigned int *lines = seen->lines;

	conf->password_line = lines[KEY_PASSWORD_FILE] ? lines[KEY_PASSWORD_FILE]
						       : lines[KEY_PASSWORD_CREDENTIAL];
	conf->tls_line = lines[KEY_TLS_CA] ? lines[KEY_TLS_CA] : lines[KEY_TLS];
}

/* What the checks of one upstream have in hand. */
struct check {
	const struct upstream_reader *reader;
	const char *path;
	struct upstream_conf *conf;
	const struct seen *seen;
	unsigned int errors;
};

static bool is_given(const struct check *check, int key)
{
	return check->seen->given & (1U << key);
}

/* Logs a mistake at the line of a key that was given, or at that of the section (-1). */
static void mistake(struct check *check, int key, const char *fmt, ...) _printf_(3, 4);
static void mistake(struct check *check, int key, const char *fmt, ...)
{
	const unsigned int line = key < 0 ? check->conf->line : check->seen->lines[key];
	char text[CONFIGFILE_ERROR_LEN];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (key < 0)
		log_err("%s:%u: [upstream %s]: %s", check->path, line, check->conf->name, text);
	else
		log_err("%s:%u: %s: %s", check->path, line, upstream_keys[key].row.name, text);
	check->errors++;
}

/* Which types take the key: "socks5, http". */
static const char *format_types(unsigned int set, char text[64])
{
	size_t used = 0, i;

	*text = '\0';
	for (i = 0; upstream_types[i]; i++) {
		if (set & (1U << i))
			used += (size_t)snprintf(text + used, 64 - used, "%s%s", used ? ", " : "",
						 upstream_types[i]);
	}
	return text;
}

/* Keys that the type does not take, and keys that it needs. Returns false if the type is unknown.
 */
static bool check_type(struct check *check)
{
	const unsigned int type = 1U << check->conf->type;
	char text[64];
	int i;

	if (!is_given(check, KEY_TYPE)) {
		mistake(check, -1, "type is missing: socks5, http, tcp, direct or group");
		return false;
	}
	if (check->seen->wrong & (1U << KEY_TYPE))
		return false;
	for (i = 0; i < _KEY_MAX; i++) {
		if (is_given(check, i) && !(upstream_keys[i].types & type))
			mistake(check, i, "an upstream of type %s has none; it is for %s",
				upstream_types[check->conf->type],
				format_types(upstream_keys[i].types, text));
	}
	if ((type & SERVER) && !is_given(check, KEY_ADDRESS))
		mistake(check, -1, "address is missing: ADDR:PORT, NAME:PORT or a path");
	if ((type & GROUP) && !is_given(check, KEY_MEMBERS))
		mistake(check, -1, "members is missing: the names of upstreams");
	return true;
}

static void check_password(struct check *check)
{
	const bool file = is_given(check, KEY_PASSWORD_FILE);
	const bool credential = is_given(check, KEY_PASSWORD_CREDENTIAL);
	const int key = file ? KEY_PASSWORD_FILE : KEY_PASSWORD_CREDENTIAL;

	if (file && credential)
		mistake(check, KEY_PASSWORD_CREDENTIAL,
			"there is a password-file in line %u; give one of them",
			check->seen->lines[KEY_PASSWORD_FILE]);
	if ((file || credential) && !is_given(check, KEY_USER))
		mistake(check, key, "there is no user; add 'user = NAME'");
	if (!file && !credential && is_given(check, KEY_USER))
		mistake(check, KEY_USER,
			"there is no password; add 'password-file = FILE' or 'password-credential = NAME'");
	if (check->conf->type == UPSTREAM_HTTP && strchr(check->conf->user, ':'))
		mistake(check, KEY_USER, "the user of an HTTP proxy cannot contain ':'");
}

/* Sets the name that the certificate must have to that of the address. */
static void default_tls_name(struct upstream_conf *conf)
{
	if (*conf->host)
		strcpy(conf->tls_name, conf->host);
	else if (conf->addr.sa.sa_family == AF_INET)
		inet_ntop(AF_INET, &conf->addr.in.sin_addr, conf->tls_name, UPSTREAM_HOST_LEN);
	else if (conf->addr.sa.sa_family == AF_INET6)
		inet_ntop(AF_INET6, &conf->addr.in6.sin6_addr, conf->tls_name, UPSTREAM_HOST_LEN);
}

static void check_tls(struct check *check)
{
	struct upstream_conf *conf = check->conf;
	int i;

	for (i = KEY_TLS_NAME; i <= KEY_TLS_VERIFY; i++) {
		if (is_given(check, i) && !conf->tls)
			mistake(check, i, "there is no TLS; add 'tls = yes'");
	}
	if (!conf->tls)
		return;
	if (!conf->tls_verify && is_given(check, KEY_TLS_CA))
		mistake(check, KEY_TLS_CA,
			"tls-verify = no in line %u verifies nothing; remove one",
			check->seen->lines[KEY_TLS_VERIFY]);
	if (conf->tls_verify && conf->addr.sa.sa_family == AF_UNIX &&
	    !is_given(check, KEY_TLS_NAME))
		mistake(check, KEY_TLS,
			"a UNIX socket has no name that a certificate could have; add 'tls-name = NAME'");
	if (!*conf->tls_name)
		default_tls_name(conf);
}

static void check_header(struct check *check)
{
	if (check->conf->proxy_process && check->conf->proxy_header != PROXY_HEADER_V2)
		mistake(check, KEY_PROXY_PROCESS,
			"only version 2 has room for it; add 'proxy-protocol = v2'");
}

static void check_members(struct check *check)
{
	const struct upstreams_conf *all = check->reader->conf;
	struct upstream_conf *conf = check->conf;
	const struct upstream_conf *member;
	size_t i;

	for (i = 0; i < conf->n_members; i++) {
		struct upstream_member *m = &conf->members[i];

		member = find(all, m->name);
		if (!member && !upstream_config_has(all, m->name) && !check->reader->refused)
			mistake(check, KEY_MEMBERS, "there is no [upstream %s]", m->name);
		if (member && member->type == UPSTREAM_GROUP)
			mistake(check, KEY_MEMBERS,
				"'%s' in line %u is a group; name its members instead", m->name,
				member->line);
		if (m->weight && conf->order != UPSTREAM_WEIGHTED)
			mistake(check, KEY_MEMBERS, "'%s' has a weight; add 'order = weighted'",
				m->name);
		if (m->weight == 0)
			m->weight = 1;
	}
}

/* The names that [names] refers to. Returns the number of mistakes. */
static unsigned int check_names(const struct upstream_reader *reader, const char *path)
{
	const struct names *names = reader->conf->names;
	unsigned int errors = 0;
	struct names_match line;
	size_t i;

	for (i = 0; i < names_count(names) && !reader->refused; i++) {
		names_get(names, i, &line);
		if (line.action != NAMES_VIA || upstream_config_has(reader->conf, line.via))
			continue;
		log_err("%s:%u: there is no [upstream %s]", path, line.line, line.via);
		errors++;
	}
	return errors;
}

int upstream_reader_check(const struct upstream_reader *reader, const char *path)
{
	unsigned int errors = 0;
	size_t i;

	for (i = 0; i < reader->conf->n; i++) {
		struct check check = {
			.reader = reader,
			.path = path,
			.conf = &reader->conf->list[i],
			.seen = &reader->seen[i],
		};

		if (check_type(&check)) {
			check_password(&check);
			check_tls(&check);
			check_header(&check);
			check_members(&check);
		}
		keep_lines(check.conf, check.seen);
		errors += check.errors;
	}
	errors += check_names(reader, path);
	return errors ? -EINVAL : 0;
}

static int read_secret(struct upstream_conf *conf, char error[SECRET_ERROR_LEN])
{
	if (conf->secret) {
		secret_lock(conf->secret);
		return 0;
	}
	if (*conf->password_file)
		return secret_read_file(conf->password_file, &conf->secret, error);
	if (*conf->password_credential)
		return secret_read_credential(conf->password_credential, &conf->secret, error);
	return 0;
}

int upstream_config_read_secrets(struct upstreams_conf *conf, const char *path)
{
	char error[SECRET_ERROR_LEN];
	size_t i;
	int r = 0, one;

	for (i = 0; i < conf->n; i++) {
		one = read_secret(&conf->list[i], error);
		if (one < 0)
			log_err("%s:%u: %s: %s", path, conf->list[i].password_line,
				*conf->list[i].password_file
					? upstream_keys[KEY_PASSWORD_FILE].row.name
					: upstream_keys[KEY_PASSWORD_CREDENTIAL].row.name,
				error);
		r = r < 0 ? r : one;
	}
	return r;
}
