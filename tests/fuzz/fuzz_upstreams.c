// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * The sections [upstream NAME] and [names] of any file. They fail with a message or succeed without
 * one, and what is accepted is complete and consistent: the relay uses it without further checks.
 */
#include "fuzz.h"

#include "../../common/parse.c"
#define open   fuzz_open
#define fdopen fuzz_fdopen
#include "../../common/configfile.c"
#undef fdopen
#undef open
#include "../../common/optable.c"
#include "../../proxy/upstream/config.c"

static int on_begin(void *data, const char *section, const char *name, unsigned int line,
		    char error[CONFIGFILE_ERROR_LEN])
{
	return upstream_reader_begin(data, section, name, line, error);
}

static int on_key(void *data, const char *key, const char *value, unsigned int line,
		  char error[CONFIGFILE_ERROR_LEN])
{
	return upstream_reader_set(data, key, value, line, error);
}

static int on_own_key(void *data, const char *key, const char *value, unsigned int line,
		      char error[CONFIGFILE_ERROR_LEN])
{
	return 0;
}

static void check_server(const struct upstream_conf *u)
{
	const bool is_proxy = u->type == UPSTREAM_SOCKS5 || u->type == UPSTREAM_HTTP;
	const sa_family_t family = u->addr.sa.sa_family;

	require(u->n_members == 0);
	require(!*u->host == (family != AF_UNSPEC));
	require(!*u->host || u->port);
	require(family != AF_INET || u->addr.in.sin_port);
	require(family != AF_INET6 || u->addr.in6.sin6_port);
	require(family != AF_UNIX || *u->addr.un.sun_path == '/');
	require(!*u->user == (!*u->password_file && !*u->password_credential));
	require(!*u->password_file || !*u->password_credential);
	require(!*u->user || is_proxy);
	require(u->type != UPSTREAM_HTTP || !strchr(u->user, ':'));
	require(!u->send_name || is_proxy);
	require(!u->pipeline || u->type == UPSTREAM_SOCKS5);
	require(u->tls || (!*u->tls_name && !*u->tls_ca && u->tls_verify));
	require(!u->tls || !u->tls_verify || *u->tls_name);
	require(u->check_interval_ms == 0 || u->check_interval_ms >= CHECK_LEAST_MS);
}

static void check_group(const struct upstreams_conf *conf, const struct upstream_conf *u)
{
	const struct upstream_conf *member;
	size_t i;

	require(u->n_members >= 1 && u->n_members <= UPSTREAM_MEMBERS_MAX);
	require(!u->tls && !*u->host && u->addr.sa.sa_family == AF_UNSPEC);
	require(u->proxy_header == PROXY_HEADER_NONE && !*u->user);
	for (i = 0; i < u->n_members; i++) {
		require(upstream_config_has(conf, u->members[i].name));
		member = find(conf, u->members[i].name);
		require(!member || member->type != UPSTREAM_GROUP);
		require(u->members[i].weight >= 1 && u->members[i].weight <= WEIGHT_MAX);
		require(u->order == UPSTREAM_WEIGHTED || u->members[i].weight == 1);
	}
}

static void check_conf(const struct upstreams_conf *conf)
{
	const struct upstream_conf *u;
	struct names_match match;
	size_t i, j;

	require(conf->n <= UPSTREAMS_MAX);
	for (i = 0; i < conf->n; i++) {
		u = &conf->list[i];
		require(upstream_name_is_valid(u->name, strlen(u->name)));
		require(u->id == upstream_id(u->name) && !u->secret && u->line > 0);
		for (j = 0; j < i; j++)
			require(conf->list[j].id != u->id);
		require(!u->proxy_process || u->proxy_header == PROXY_HEADER_V2);
		require(u->when_down != UPSTREAM_DOWN_WAIT || u->down_wait_ms > 0);
		require(u->down_error >= 0);
		if (u->type == UPSTREAM_GROUP)
			check_group(conf, u);
		else if (u->type != UPSTREAM_DIRECT)
			check_server(u);
	}
	for (i = 0; i < names_count(conf->names); i++) {
		names_get(conf->names, i, &match);
		require(match.action != NAMES_VIA || upstream_config_has(conf, match.via));
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct upstreams_conf conf = {};
	struct upstream_reader *reader = upstream_reader_create(&conf);
	struct configfile file = {
		.path = "fuzz.conf",
		.section = "relay",
		.set = on_own_key,
		.begin = on_begin,
		.set_other = on_key,
		.data = reader,
	};
	int r;

	require(reader);
	fuzz_file.data = data;
	fuzz_file.size = size;
	fuzz_logged = 0;
	r = configfile_read(&file);
	require((r == 0) == (fuzz_logged == 0));
	if (r == 0) {
		r = upstream_reader_check(reader, file.path);
		require((r == 0) == (fuzz_logged == 0));
	}
	if (r == 0)
		check_conf(&conf);
	upstream_reader_destroy(reader);
	upstreams_conf_finish(&conf);
	return 0;
}
