// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * See config.h. The keys of [upstream NAME] are rows of a table, as the options of a program are
 * (optable.h); their members are in struct upstream_conf. Each row has the types of upstreams that
 * take the key, which is checked when all keys of the section are known: `type` need not be first.
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

#include "errno_name.h"
#include "host_name.h"
#include "log.h"
#include "names.h"
#include "optable.h"
#include "parse.h"
#include "secret.h"
#include "server_address.h"
#include "upstream.h"
#include "upstream_id.h"
#include "util.h"

_Static_assert(OPTABLE_ERROR_LEN == CONFIGFILE_ERROR_LEN, "one message for both");
_Static_assert(OPTABLE_ERROR_LEN == SECRET_ERROR_LEN, "one message for both");
_Static_assert(OPTABLE_ERROR_LEN == NAMES_ERROR_LEN, "one message for both");

#define CHECK_LEAST_MS 100
#define WEIGHT_MAX     1000

#define SOCKS5 (1U << UPSTREAM_SOCKS5)
#define HTTP   (1U << UPSTREAM_HTTP)
#define TCP    (1U << UPSTREAM_TCP)
#define DIRECT (1U << UPSTREAM_DIRECT)
#define GROUP  (1U << UPSTREAM_GROUP)
#define PROXY  (SOCKS5 | HTTP)
#define SERVER (PROXY | TCP)

static const char *const types[] = {
	[UPSTREAM_DIRECT] = "direct", [UPSTREAM_SOCKS5] = "socks5", [UPSTREAM_HTTP] = "http",
	[UPSTREAM_TCP] = "tcp",	      [UPSTREAM_GROUP] = "group",   NULL,
};
static const char *const orders[] = {
	[UPSTREAM_FAILOVER] = "failover",
	[UPSTREAM_WEIGHTED] = "weighted",
	[UPSTREAM_HASH_CLIENT] = "hash-client",
	[UPSTREAM_HASH_DESTINATION] = "hash-destination",
	NULL,
};
static const char *const headers[] = {
	[PROXY_HEADER_NONE] = "none",
	[PROXY_HEADER_V1] = "v1",
	[PROXY_HEADER_V2] = "v2",
	NULL,
};

/* Splits off the next word of *text, which ends at a blank. Returns false if there is none. */
static bool next_word(const char **text, const char **ret_word, size_t *ret_len)
{
	*text += strspn(*text, " \t");
	*ret_word = *text;
	*ret_len = strcspn(*text, " \t");
	*text += *ret_len;
	return *ret_len > 0;
}

static int set_path_address(struct upstream_conf *conf, const char *path,
			    char error[OPTABLE_ERROR_LEN])
{
	if (path[strlen(path) - 1] == '/')
		return optable_refuse(error, "'%s' is a directory, not a UNIX socket", path);
	if (strlen(path) >= sizeof(conf->addr.un.sun_path))
		return optable_refuse(error,
				      "the path of a UNIX socket has at most %zu bytes: '%s'",
				      sizeof(conf->addr.un.sun_path) - 1, path);
	conf->addr.un.sun_family = AF_UNIX;
	strcpy(conf->addr.un.sun_path, path);
	return 0;
}

static int set_numeric_address(struct upstream_conf *conf, const union sockaddr_any *addr,
			       const char *value, char error[OPTABLE_ERROR_LEN])
{
	const char *why = why_no_server(addr);

	if (addr->in.sin_port == 0)
		return optable_refuse(error, "'%s': port 0 is no port of a server", value);
	if (why)
		return optable_refuse(error, "'%s' is %s; no server has it", value, why);
	if (addr->sa.sa_family == AF_INET6)
		conf->addr.in6 = addr->in6;
	else
		conf->addr.in = addr->in;
	return 0;
}

/*
 * Copies the name of a server. It cannot begin with '-' (RFC 1123, 2.1), though a name that a
 * client sends may: host_name_copy() takes it.
 */
static bool copy_host(char ret_name[UPSTREAM_HOST_LEN], const char *text, size_t len)
{
	return *text != '-' && host_name_copy(ret_name, text, len);
}

static int set_address(const struct optable_row *row, void *options, const char *value,
		       unsigned int line, char error[OPTABLE_ERROR_LEN])
{
	struct upstream_conf *conf = options;
	const char *colon = strrchr(value, ':');
	union sockaddr_any addr;
	uint32_t port;

	if (*value == '/')
		return set_path_address(conf, value, error);
	if (parse_endpoint(value, &addr) == 0)
		return set_numeric_address(conf, &addr, value, error);
	if (!colon || parse_u32(colon + 1, 1, UINT16_MAX, &port) < 0)
		return optable_refuse(
			error,
			"'%s' has no port from 1 to 65535; write 192.0.2.8:3128, [2001:db8::8]:3128, proxy.example.com:3128, or the path of a UNIX socket",
			value);
	if (!copy_host(conf->host, value, (size_t)(colon - value)))
		return optable_refuse(
			error,
			"'%.*s' is neither a numeric address (IPv6: in brackets) nor a host name",
			(int)(colon - value), value);
	conf->port = (uint16_t)port;
	return 0;
}

static int set_tls_name(const struct optable_row *row, void *options, const char *value,
			unsigned int line, char error[OPTABLE_ERROR_LEN])
{
	struct upstream_conf *conf = options;
	struct in6_addr addr;

	if (inet_pton(AF_INET, value, &addr) == 1 || inet_pton(AF_INET6, value, &addr) == 1) {
		strcpy(conf->tls_name, value);
		return 0;
	}
	if (!copy_host(conf->tls_name, value, strlen(value)))
		return optable_refuse(error, "'%s' is neither a host name nor an address", value);
	return 0;
}

static int set_user(const struct optable_row *row, void *options, const char *value,
		    unsigned int line, char error[OPTABLE_ERROR_LEN])
{
	struct upstream_conf *conf = options;
	const unsigned char *c;

	for (c = (const unsigned char *)value; *c && *c >= ' ' && *c != 0x7f; c++)
		;
	if (!*value || *c || strlen(value) >= sizeof(conf->user))
		return optable_refuse(error,
				      "a user has 1 to %zu bytes, none of them a control character",
				      sizeof(conf->user) - 1);
	strcpy(conf->user, value);
	return 0;
}

static int set_credential(const struct optable_row *row, void *options, const char *value,
			  unsigned int line, char error[OPTABLE_ERROR_LEN])
{
	struct upstream_conf *conf = options;

	if (!*value || *value == '.' || strchr(value, '/') ||
	    strlen(value) >= sizeof(conf->password_credential))
		return optable_refuse(
			error,
			"'%s' is not the name of a credential, as in LoadCredential=NAME:FILE of the unit",
			value);
	strcpy(conf->password_credential, value);
	return 0;
}

static int add_member(struct upstream_conf *conf, const char *name, size_t len, uint32_t weight,
		      char error[OPTABLE_ERROR_LEN])
{
	struct upstream_member *member = conf->members + conf->n_members;
	size_t i;

	if (!upstream_name_is_valid(name, len))
		return optable_refuse(error, "'%.*s' is not the name of an upstream", (int)len,
				      name);
	if (conf->n_members == UPSTREAM_MEMBERS_MAX)
		return optable_refuse(error, "a group has at most %d members",
				      UPSTREAM_MEMBERS_MAX);
	memcpy(member->name, name, len);
	member->weight = weight;
	for (i = 0; i < conf->n_members; i++) {
		if (strcmp(conf->members[i].name, member->name) == 0)
			return optable_refuse(error, "'%s' is given twice", member->name);
	}
	conf->n_members++;
	return 0;
}

/* "NAME" or "NAME WEIGHT". A weight of 0 stands for none until upstream_reader_check(). */
static int parse_member(struct upstream_conf *conf, const char *text, char error[OPTABLE_ERROR_LEN])
{
	const char *name, *number, *rest, *all = text;
	char digits[16];
	size_t len, number_len, rest_len;
	uint32_t weight = 0;

	if (!next_word(&text, &name, &len))
		return optable_refuse(error, "a member is missing; write 'NAME, NAME'");
	if (next_word(&text, &number, &number_len)) {
		snprintf(digits, sizeof(digits), "%.*s", (int)number_len, number);
		if (number_len >= sizeof(digits) || parse_u32(digits, 1, WEIGHT_MAX, &weight) < 0 ||
		    next_word(&text, &rest, &rest_len))
			return optable_refuse(
				error,
				"'%s': write 'NAME' or 'NAME WEIGHT', with a weight from 1 to %d, and commas between members",
				all + strspn(all, " \t"), WEIGHT_MAX);
	}
	return add_member(conf, name, len, weight, error);
}

static int set_members(const struct optable_row *row, void *options, const char *value,
		       unsigned int line, char error[OPTABLE_ERROR_LEN])
{
	struct upstream_conf *conf = options;
	char text[CONFIGFILE_LINE_MAX + 1];
	size_t len;
	int r = 0;

	for (; r == 0; value += len + 1) {
		len = strcspn(value, ",");
		snprintf(text, sizeof(text), "%.*s", (int)len, value);
		r = parse_member(conf, text, error);
		if (!value[len])
			break;
	}
	return r;
}

/* "refuse", "refuse ERRNO", "direct" or "wait DURATION". */
static int set_when_down(const struct optable_row *row, void *options, const char *value,
			 unsigned int line, char error[OPTABLE_ERROR_LEN])
{
	struct upstream_conf *conf = options;
	const size_t len = strcspn(value, " \t");
	const char *rest = value + len + strspn(value + len, " \t");
	int number;

	if (strcmp(value, "direct") == 0) {
		conf->when_down = UPSTREAM_DOWN_DIRECT;
		return 0;
	}
	if (len == strlen("wait") && strncmp(value, "wait", len) == 0) {
		conf->when_down = UPSTREAM_DOWN_WAIT;
		if (parse_duration_ms(rest, &conf->down_wait_ms) == 0 && conf->down_wait_ms > 0)
			return 0;
		return optable_refuse(error, "'%s' is not a duration, such as 'wait 10s'", rest);
	}
	if (len == strlen("refuse") && strncmp(value, "refuse", len) == 0) {
		conf->when_down = UPSTREAM_DOWN_REFUSE;
		number = *rest ? errno_from_name(rest) : ECONNREFUSED;
		if (number > 0) {
			conf->down_error = number;
			return 0;
		}
		return optable_refuse(
			error, "'%s' is not an error of connect(2), such as EHOSTUNREACH", rest);
	}
	return optable_refuse(
		error, "'%s' is not one of refuse, 'refuse ERRNO', direct, 'wait DURATION'", value);
}

enum {
	KEY_TYPE,
	KEY_ADDRESS,
	KEY_TLS,
	KEY_TLS_NAME,
	KEY_TLS_CA,
	KEY_TLS_VERIFY,
	KEY_USER,
	KEY_PASSWORD_FILE,
	KEY_PASSWORD_CREDENTIAL,
	KEY_SEND_NAME,
	KEY_PIPELINE,
	KEY_PROXY_PROTOCOL,
	KEY_PROXY_PROCESS,
	KEY_MEMBERS,
	KEY_ORDER,
	KEY_WHEN_DOWN,
	KEY_CHECK_INTERVAL,
	_KEY_MAX,
};

static const struct key {
	struct optable_row row;
	unsigned int types; /* that take it */
} keys[_KEY_MAX] = {
	[KEY_TYPE] = { { .name = "type",
			 OPTABLE_WORD(struct upstream_conf, type, enum upstream_type, types) },
		       SERVER | DIRECT | GROUP },
	[KEY_ADDRESS] = { { .name = "address", OPTABLE_CUSTOM(set_address) }, SERVER },
	[KEY_TLS] = { { .name = "tls", OPTABLE_FLAG(struct upstream_conf, tls) }, SERVER },
	[KEY_TLS_NAME] = { { .name = "tls-name", OPTABLE_CUSTOM(set_tls_name) }, SERVER },
	[KEY_TLS_CA] = { { .name = "tls-ca", OPTABLE_PATH(struct upstream_conf, tls_ca) }, SERVER },
	[KEY_TLS_VERIFY] = { { .name = "tls-verify",
			       OPTABLE_FLAG(struct upstream_conf, tls_verify) },
			     SERVER },
	[KEY_USER] = { { .name = "user", OPTABLE_CUSTOM(set_user) }, PROXY },
	[KEY_PASSWORD_FILE] = { { .name = "password-file",
				  OPTABLE_PATH(struct upstream_conf, password_file) },
				PROXY },
	[KEY_PASSWORD_CREDENTIAL] = { { .name = "password-credential",
					OPTABLE_CUSTOM(set_credential) },
				      PROXY },
	[KEY_SEND_NAME] = { { .name = "send-name", OPTABLE_FLAG(struct upstream_conf, send_name) },
			    PROXY },
	[KEY_PIPELINE] = { { .name = "pipeline", OPTABLE_FLAG(struct upstream_conf, pipeline) },
			   SOCKS5 },
	[KEY_PROXY_PROTOCOL] = { { .name = "proxy-protocol",
				   OPTABLE_WORD(struct upstream_conf, proxy_header,
						enum proxy_header, headers) },
				 SERVER | DIRECT },
	[KEY_PROXY_PROCESS] = { { .name = "proxy-process",
				  OPTABLE_FLAG(struct upstream_conf, proxy_process) },
				SERVER | DIRECT },
	[KEY_MEMBERS] = { { .name = "members", OPTABLE_CUSTOM(set_members) }, GROUP },
	[KEY_ORDER] = { { .name = "order",
			  OPTABLE_WORD(struct upstream_conf, order, enum upstream_order, orders) },
			GROUP },
	[KEY_WHEN_DOWN] = { { .name = "when-down", OPTABLE_CUSTOM(set_when_down) },
			    SERVER | GROUP },
	[KEY_CHECK_INTERVAL] = { { .name = "check-interval",
				   OPTABLE_DURATION_IN(struct upstream_conf, check_interval_ms,
						       CHECK_LEAST_MS, PARSE_DURATION_MAX_MS) },
				 SERVER },
};

/* A section under way, or read. */
struct seen {
	uint32_t given; /* bit n: keys[n] was given */
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
		.down_error = ECONNREFUSED,
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
	for (i = 0; i < _KEY_MAX && strcmp(key, keys[i].row.name) != 0; i++)
		;
	if (i == _KEY_MAX)
		return optable_refuse(error, "unknown key");
	if (seen->given & (1U << i))
		return optable_refuse(error, "given twice, first in line %u", seen->lines[i]);
	seen->given |= 1U << i;
	seen->lines[i] = line;
	r = optable_set(&keys[i].row, reader->section, value, line, error);
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
		log_err("%s:%u: %s: %s", check->path, line, keys[key].row.name, text);
	check->errors++;
}

/* Which types take the key: "socks5, http". */
static const char *format_types(unsigned int set, char text[64])
{
	size_t used = 0, i;

	*text = '\0';
	for (i = 0; types[i]; i++) {
		if (set & (1U << i))
			used += (size_t)snprintf(text + used, 64 - used, "%s%s", used ? ", " : "",
						 types[i]);
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
		if (is_given(check, i) && !(keys[i].types & type))
			mistake(check, i, "an upstream of type %s has none; it is for %s",
				types[check->conf->type], format_types(keys[i].types, text));
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
					? keys[KEY_PASSWORD_FILE].row.name
					: keys[KEY_PASSWORD_CREDENTIAL].row.name,
				error);
		r = r < 0 ? r : one;
	}
	return r;
}
