// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * See config_keys.h. The keys are rows of a table, as the options of a program are (optable.h);
 * their members are in struct upstream_conf. Each row has the types of upstreams that take the key,
 * which config.c checks when all keys of the section are known: `type` need not be first.
 */
#include "config_keys.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "configfile.h"
#include "errno_name.h"
#include "host_name.h"
#include "parse.h"
#include "server_address.h"
#include "util.h"

const char *const upstream_types[] = {
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
	/* As in the URL of a proxy. What precedes it may be a password, so it is not shown. */
	if (strchr(value, '@') > value)
		return optable_refuse(
			error,
			"an address has no '@'; name the user with 'user', and a file with the password with 'password-file'");
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
		number = *rest ? errno_from_name(rest) : 0;
		if (number > 0 || !*rest) {
			conf->down_error = number;
			return 0;
		}
		return optable_refuse(
			error, "'%s' is not an error of connect(2), such as EHOSTUNREACH", rest);
	}
	return optable_refuse(
		error, "'%s' is not one of refuse, 'refuse ERRNO', direct, 'wait DURATION'", value);
}

const struct upstream_key upstream_keys[_KEY_MAX] = {
	[KEY_TYPE] = { { .name = "type",
			 OPTABLE_WORD(struct upstream_conf, type, enum upstream_type,
				      upstream_types) },
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
