// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Tests the sections [upstream NAME] and [names] (proxy/upstream/config.c): what they set, and
 * every mistake with its line.
 */
#include "conf_file.h"
#include "upstream/names.h"
#include "upstream_id.h"

/* Two names with the same id. */
#define COLLISION_A "yiijsv"
#define COLLISION_B "ktodoe"

/* A wrong line in the section of an upstream of this type, which is otherwise complete. */
static void expect_wrong_key(const char *type, const char *lines, unsigned int line,
			     const char *message)
{
	char text[LOG_LEN];

	snprintf(text, sizeof(text), "[upstream a]\ntype = %s\n%s\n%s", type,
		 strcmp(type, "group") == 0    ? "members = b"
		 : strcmp(type, "direct") == 0 ? ""
					       : "address = 192.0.2.1:1",
		 lines);
	if (strcmp(type, "group") == 0)
		strcat(text, "\n[upstream b]\ntype = direct\n");
	expect_wrong(text, line, message);
}

/* Every key of a server. To see it fail: leave out tls_verify in upstream_reader_begin(). */
static void test_server(void **state)
{
	const struct upstream_conf *u;

	expect_good(
		"[upstream a]\ntype = socks5\naddress = 192.0.2.8:1080\n"
		"pipeline = yes\n[upstream b-_B9]\nuser = alice\naddress: Proxy.Example.com.:3128\n"
		"password-file = /p\ntype = http\ntls = yes\ntls-name = x.example\n"
		"tls-ca = /ca.pem\nsend-name = yes\nproxy-protocol = v2\n"
		"proxy-process = yes\ncheck-interval = 500ms\n");
	assert_int_equal(conf.n, 2);
	u = &conf.list[0];
	assert_string_equal(u->name, "a");
	assert_int_equal(u->id, upstream_id("a"));
	assert_int_equal(u->type, UPSTREAM_SOCKS5);
	assert_int_equal(u->addr.in.sin_family, AF_INET);
	assert_int_equal(u->addr.in.sin_port, htons(1080));
	assert_int_equal(u->addr.in.sin_addr.s_addr, htonl(0xc0000208));
	assert_string_equal(u->host, "");
	assert_true(!u->tls && u->tls_verify && !u->send_name && !u->proxy_process);
	assert_int_equal(u->proxy_header, PROXY_HEADER_NONE);
	assert_int_equal(u->when_down, UPSTREAM_DOWN_REFUSE);
	assert_int_equal(u->down_error, 0);
	assert_int_equal(u->check_interval_ms, 0);
	assert_true(u->pipeline);
	assert_int_equal(u->line, 1);
	u = &conf.list[1];
	assert_string_equal(u->name, "b-_B9");
	assert_int_equal(u->type, UPSTREAM_HTTP);
	assert_string_equal(u->host, "proxy.example.com");
	assert_int_equal(u->port, 3128);
	assert_int_equal(u->addr.sa.sa_family, AF_UNSPEC);
	assert_string_equal(u->user, "alice");
	assert_string_equal(u->password_file, "/p");
	assert_true(u->tls && u->tls_verify && u->send_name && u->proxy_process);
	assert_string_equal(u->tls_name, "x.example");
	assert_string_equal(u->tls_ca, "/ca.pem");
	assert_int_equal(u->proxy_header, PROXY_HEADER_V2);
	assert_int_equal(u->check_interval_ms, 500);
	assert_int_equal(u->line, 5);
	assert_int_equal(u->password_line, 8);
	assert_int_equal(u->tls_line, 12);
	assert_null(u->secret);
}

static void test_addresses(void **state)
{
	char text[256], error[300];

	expect_good("[upstream a]\ntype = tcp\naddress = [2001:db8::8]:443\n"
		    "[upstream b]\ntype = tcp\naddress = /run/proxy.socket\n"
		    "[upstream c]\ntype = direct\n");
	assert_int_equal(conf.list[0].addr.in6.sin6_family, AF_INET6);
	assert_int_equal(conf.list[0].addr.in6.sin6_port, htons(443));
	assert_int_equal(conf.list[1].addr.un.sun_family, AF_UNIX);
	assert_string_equal(conf.list[1].addr.un.sun_path, "/run/proxy.socket");
	assert_int_equal(conf.list[2].type, UPSTREAM_DIRECT);
#define SERVER "[upstream a]\ntype = tcp\naddress = "
	expect_wrong(SERVER "192.0.2.8:0", 3,
		     "address: '192.0.2.8:0': port 0 is no port of a server");
	expect_wrong(
		SERVER "a b:1", 3,
		"address: 'a b' is neither a numeric address (IPv6: in brackets) nor a host name");
	expect_wrong(
		SERVER "2001:db8::8:443", 3,
		"address: '2001:db8::8' is neither a numeric address (IPv6: in brackets) nor a host name");
	expect_wrong(
		SERVER "192.0.2.300:80", 3,
		"address: '192.0.2.300' is neither a numeric address (IPv6: in brackets) nor a host name");
	expect_wrong(
		SERVER "proxy.example.com", 3,
		"address: 'proxy.example.com' has no port from 1 to 65535; write 192.0.2.8:3128, [2001:db8::8]:3128, proxy.example.com:3128, or the path of a UNIX socket");
	expect_wrong(
		SERVER "x:65536", 3,
		"address: 'x:65536' has no port from 1 to 65535; write 192.0.2.8:3128, [2001:db8::8]:3128, proxy.example.com:3128, or the path of a UNIX socket");
	expect_wrong(SERVER "/", 3, "address: '/' is a directory, not a UNIX socket");
	expect_wrong(SERVER "/run/", 3, "address: '/run/' is a directory, not a UNIX socket");
	expect_wrong(
		SERVER "-x.example:1", 3,
		"address: '-x.example' is neither a numeric address (IPv6: in brackets) nor a host name");
	expect_wrong(
		SERVER "http://bob:s3cret@proxy:3128", 3,
		"address: an address has no '@'; name the user with 'user', and a file with the password with 'password-file'");
	expect_wrong(
		SERVER "@abstract:1", 3,
		"address: '@abstract' is neither a numeric address (IPv6: in brackets) nor a host name");
	memset(text, 'x', sizeof(text));
	snprintf(error, sizeof(error), SERVER "/%.107s", text);
	snprintf(text, sizeof(text),
		 "address: the path of a UNIX socket has at most 107 bytes: '/%.107s'",
		 strrchr(error, '/') + 1);
	expect_wrong(error, 3, text);
	error[strlen(error) - 1] = '\0';
	expect_good(error);
}

/* To see it fail: let why_no_server() return NULL. */
static void test_no_server(void **state)
{
	static const struct {
		const char *address, *why;
	} wrong[] = {
		{ "0.0.0.0", "the unspecified address" },
		{ "255.255.255.255", "the broadcast address" },
		{ "224.0.0.1", "a multicast address" },
		{ "239.255.255.255", "a multicast address" },
		{ "[::]", "the unspecified address" },
		{ "[ff02::1]", "a multicast address" },
		{ "[fe80::1]", "a link-local address, which needs an interface" },
		{ "[::ffff:0.0.0.0]", "the unspecified address" },
		{ "[::ffff:224.0.0.1]", "a multicast address" },
	};
	char text[128], message[128];
	size_t i;

	for (i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		snprintf(text, sizeof(text), SERVER "%s:1", wrong[i].address);
		snprintf(message, sizeof(message), "address: '%s:1' is %s; no server has it",
			 wrong[i].address, wrong[i].why);
		expect_wrong(text, 3, message);
	}
	expect_wrong(SERVER "[2001:db8::1]:0", 3,
		     "address: '[2001:db8::1]:0': port 0 is no port of a server");
	expect_good(SERVER "127.0.0.1:1\n");
	expect_good(SERVER "[::1]:1\n");
	expect_good(SERVER "[::ffff:192.0.2.1]:1\n");
	expect_good(SERVER "223.255.255.255:1\n");
	expect_good(SERVER "240.0.0.1:1\n");
}

static void test_names_of_sections(void **state)
{
#define GOOD "[upstream a]\ntype = direct\n"
	expect_wrong(GOOD "[upstream]\ntype = x\n", 3,
		     "the section has no name; write [upstream NAME]");
	expect_wrong(GOOD "[upstream a b]\n", 3,
		     "'a b' is not the name of an upstream: 1 to 31 letters, digits, '-' and '_'");
	expect_wrong(
		GOOD "[upstream abcdefghijklmnopqrstuvwxyz012345]\n", 3,
		"'abcdefghijklmnopqrstuvwxyz012345' is not the name of an upstream: 1 to 31 letters, digits, '-' and '_'");
	expect_good("[upstream abcdefghijklmnopqrstuvwxyz01234]\ntype = direct\n");
	expect_wrong(GOOD "[upstream direct]\n", 3,
		     "the upstream 'direct' is built in; choose another name");
	expect_wrong("\n" GOOD "[upstream b]\ntype = direct\n[upstream a]\ntype = direct\n", 6,
		     "[upstream a] is given twice, first in line 2");
}

/*
 * Two names with one id: the rules could not tell them apart. To see it fail: leave out the loop in
 * check_name().
 */
static void test_same_id(void **state)
{
	assert_int_equal(upstream_id(COLLISION_A), upstream_id(COLLISION_B));
	expect_wrong("[upstream " COLLISION_A "]\ntype = direct\n[upstream " COLLISION_B "]\n", 3,
		     "'" COLLISION_B "' has the same id as '" COLLISION_A
		     "' in line 1; choose another name");
}

static void test_too_many(void **state)
{
	char text[64 * (UPSTREAMS_MAX + 1)] = "";
	size_t used = 0, i;

	for (i = 0; i < UPSTREAMS_MAX; i++)
		used += (size_t)sprintf(text + used, "[upstream u%zu]\ntype = direct\n", i);
	expect_good(text);
	sprintf(text + used, "[upstream more]\ntype = direct\n");
	expect_wrong(text, 2 * UPSTREAMS_MAX + 1, "there are more than 64 upstreams");
}

static void test_groups(void **state)
{
	const struct upstream_conf *u;

	/* Members may stand below, and be built in. */
	expect_good("[upstream g]\ntype = group\nmembers = a 3,b,  direct 1\norder = weighted\n"
		    "when-down = wait 5s\n"
		    "[upstream a]\ntype = direct\n[upstream b]\ntype = tcp\naddress = x:1\n"
		    "when-down = refuse EHOSTUNREACH\n"
		    "[upstream h]\ntype = group\norder = hash-client\nmembers = a\n"
		    "when-down = direct\n");
	u = &conf.list[0];
	assert_int_equal(u->type, UPSTREAM_GROUP);
	assert_int_equal(u->order, UPSTREAM_WEIGHTED);
	assert_int_equal(u->n_members, 3);
	assert_string_equal(u->members[0].name, "a");
	assert_int_equal(u->members[0].weight, 3);
	assert_string_equal(u->members[1].name, "b");
	assert_int_equal(u->members[1].weight, 1);
	assert_string_equal(u->members[2].name, "direct");
	assert_int_equal(u->when_down, UPSTREAM_DOWN_WAIT);
	assert_int_equal(u->down_wait_ms, 5000);
	assert_int_equal(conf.list[2].down_error, EHOSTUNREACH);
	assert_int_equal(conf.list[3].order, UPSTREAM_HASH_CLIENT);
	assert_int_equal(conf.list[3].members[0].weight, 1);
	assert_int_equal(conf.list[3].when_down, UPSTREAM_DOWN_DIRECT);
#define MEMBERS "[upstream a]\ntype = direct\n[upstream g]\ntype = group\nmembers = "
	expect_wrong(MEMBERS "a, nobody", 5, "members: there is no [upstream nobody]");
	expect_wrong(MEMBERS "a 2", 5, "members: 'a' has a weight; add 'order = weighted'");
	expect_wrong(MEMBERS "a, a", 5, "members: 'a' is given twice");
	expect_wrong(MEMBERS "a,", 5, "members: a member is missing; write 'NAME, NAME'");
	expect_wrong(MEMBERS ", a", 5, "members: a member is missing; write 'NAME, NAME'");
	expect_wrong(MEMBERS "", 5, "members: a member is missing; write 'NAME, NAME'");
	expect_wrong(MEMBERS "a/b", 5, "members: 'a/b' is not the name of an upstream");
	expect_wrong(
		MEMBERS "a direct", 5,
		"members: 'a direct': write 'NAME' or 'NAME WEIGHT', with a weight from 1 to 1000, and commas between members");
	expect_wrong(
		MEMBERS "a 0", 5,
		"members: 'a 0': write 'NAME' or 'NAME WEIGHT', with a weight from 1 to 1000, and commas between members");
	expect_wrong(MEMBERS "a, g", 5,
		     "members: 'g' in line 3 is a group; name its members instead");
	expect_wrong(MEMBERS "a,b,c,d,e,f,g,h,i,j,k,l,m,n,o,p,q", 5,
		     "members: a group has at most 16 members");
}

static void test_types(void **state)
{
	expect_wrong("[upstream a]\n", 1,
		     "[upstream a]: type is missing: socks5, http, tcp, direct or group");
	expect_wrong("[upstream a]\ntype = socks4\n", 2,
		     "type: 'socks4' is not one of direct, socks5, http, tcp, group");
	expect_wrong("\n[upstream a]\ntype = socks5\n", 2,
		     "[upstream a]: address is missing: ADDR:PORT, NAME:PORT or a path");
	expect_wrong("[upstream a]\ntype = group\n", 1,
		     "[upstream a]: members is missing: the names of upstreams");
	expect_wrong_key(
		"direct", "address = x:1", 4,
		"address: an upstream of type direct has none; it is for socks5, http, tcp");
	expect_wrong_key(
		"group", "proxy-protocol = v1", 4,
		"proxy-protocol: an upstream of type group has none; it is for direct, socks5, http, tcp");
	expect_wrong_key(
		"group", "check-interval = 1s", 4,
		"check-interval: an upstream of type group has none; it is for socks5, http, tcp");
	expect_wrong_key("tcp", "send-name = yes", 4,
			 "send-name: an upstream of type tcp has none; it is for socks5, http");
	expect_wrong_key("socks5", "order = weighted", 4,
			 "order: an upstream of type socks5 has none; it is for group");
	expect_wrong_key(
		"direct", "when-down = direct", 4,
		"when-down: an upstream of type direct has none; it is for socks5, http, tcp, group");
	expect_wrong_key("http", "pipeline = yes", 4,
			 "pipeline: an upstream of type http has none; it is for socks5");
}

static void test_values(void **state)
{
	expect_wrong_key("http", "bogus = 1", 4, "bogus: unknown key");
	expect_wrong_key("http", "tls = no\ntls = no", 5, "tls: given twice, first in line 4");
	expect_wrong_key("http", "tls = perhaps", 4, "tls: 'perhaps' is neither yes nor no");
	expect_wrong_key("http", "proxy-protocol = v3", 4,
			 "proxy-protocol: 'v3' is not one of none, v1, v2");
	expect_wrong_key(
		"http", "check-interval = 1ms", 4,
		"check-interval: '1ms' is not a duration from 100ms to 168h, such as 500ms, 10s, 5m, or 0 for never");
	expect_wrong_key(
		"http", "when-down = fail", 4,
		"when-down: 'fail' is not one of refuse, 'refuse ERRNO', direct, 'wait DURATION'");
	expect_wrong_key("http", "when-down = wait", 4,
			 "when-down: '' is not a duration, such as 'wait 10s'");
	expect_wrong_key("http", "when-down = wait 0", 4,
			 "when-down: '0' is not a duration, such as 'wait 10s'");
	expect_wrong_key("http", "when-down = refuse ENOENT", 4,
			 "when-down: 'ENOENT' is not an error of connect(2), such as EHOSTUNREACH");
	expect_wrong_key(
		"http", "proxy-process = yes", 4,
		"proxy-process: only version 2 has room for it; add 'proxy-protocol = v2'");
	expect_wrong_key(
		"http", "proxy-protocol = v1\nproxy-process = yes", 5,
		"proxy-process: only version 2 has room for it; add 'proxy-protocol = v2'");
}

static void test_tls(void **state)
{
	expect_wrong_key("http", "tls-name = x", 4, "tls-name: there is no TLS; add 'tls = yes'");
	expect_wrong_key("http", "tls = no\ntls-verify = no", 5,
			 "tls-verify: there is no TLS; add 'tls = yes'");
	expect_wrong_key("http", "tls = yes\ntls-name = [x]", 5,
			 "tls-name: '[x]' is neither a host name nor an address");
	expect_wrong_key("http", "tls = yes\ntls-name = -x", 5,
			 "tls-name: '-x' is neither a host name nor an address");
	expect_wrong_key("http", "tls = yes\ntls-verify = no\ntls-ca = /x", 6,
			 "tls-ca: tls-verify = no in line 5 verifies nothing; remove one");
	expect_wrong(
		"[upstream a]\ntype = http\naddress = /x\ntls = yes\n", 4,
		"tls: a UNIX socket has no name that a certificate could have; add 'tls-name = NAME'");
	expect_good("[upstream a]\ntype = http\naddress = /x\ntls = yes\ntls-verify = no\n");
	assert_false(conf.list[0].tls_verify);
	/* By default the certificate must have the name or the address of the upstream. */
	expect_good("[upstream a]\ntype = tcp\naddress = Proxy.example:1\ntls = yes\n"
		    "[upstream b]\ntype = tcp\naddress = [2001:db8::1]:1\ntls = yes\n"
		    "[upstream c]\ntype = tcp\naddress = 192.0.2.1:1\ntls = yes\n"
		    "[upstream d]\ntype = tcp\naddress = x:1\ntls = yes\ntls-name = 192.0.2.2\n");
	assert_string_equal(conf.list[0].tls_name, "proxy.example");
	assert_int_equal(conf.list[0].tls_line, 4);
	assert_string_equal(conf.list[1].tls_name, "2001:db8::1");
	assert_string_equal(conf.list[2].tls_name, "192.0.2.1");
	assert_string_equal(conf.list[3].tls_name, "192.0.2.2");
}

static void test_users(void **state)
{
	expect_wrong_key(
		"http", "user = a", 4,
		"user: there is no password; add 'password-file = FILE' or 'password-credential = NAME'");
	expect_wrong_key("socks5", "password-file = /x", 4,
			 "password-file: there is no user; add 'user = NAME'");
	expect_wrong_key("socks5", "password-credential = x", 4,
			 "password-credential: there is no user; add 'user = NAME'");
	expect_wrong_key(
		"socks5", "user = a\npassword-file = /x\npassword-credential = x", 6,
		"password-credential: there is a password-file in line 5; give one of them");
	expect_wrong_key(
		"socks5", "user = a\npassword-credential = ../x", 5,
		"password-credential: '../x' is not the name of a credential, as in LoadCredential=NAME:FILE of the unit");
	expect_wrong_key("http", "user = a:b\npassword-file = /x", 4,
			 "user: the user of an HTTP proxy cannot contain ':'");
	expect_good("[upstream a]\ntype = socks5\naddress = x:1\nuser = a:b\npassword-file = /x\n");
	expect_wrong_key("socks5", "user =\npassword-file = /x", 4,
			 "user: a user has 1 to 255 bytes, none of them a control character");
}

static void test_names(void **state)
{
	struct names_match match;

	expect_good("[names]\n*.example.org = via a\nintranet.example.com = direct\n"
		    "*.ads.example = refuse EACCES\n[upstream a]\ntype = direct\n");
	assert_int_equal(names_count(conf.names), 3);
	names_find(conf.names, "www.example.org", 0, &match);
	assert_int_equal(match.action, NAMES_VIA);
	assert_string_equal(match.via, "a");
	assert_int_equal(match.line, 2);
	expect_wrong("[names]\n\n*.example.org = via nobody\n", 3, "there is no [upstream nobody]");
	expect_wrong(
		"[names]\na.example = refuse\nb.example = direct\nA.example = direct\n", 4,
		"A.example: without effect: line 2 matches the same names, and always decides; remove one, or exchange them");
	expect_good("[names]\n* = via direct\n");
	expect_good("");
	assert_null(conf.names);
	assert_int_equal(conf.n, 0);
}

/* One mistake is one line: it does not make others of what refers to it. */
static void test_follow_on(void **state)
{
	char log[LOG_LEN] = "";

	assert_int_equal(read_conf("[upstream a]\ntype = htp\n[upstream b]\ntype = tcp\n"
				   "address = x\n[upstream a?]\ntype = none\n[names]\n* = drop\n"),
			 -EINVAL);
	assert_true(pread(log_fd, log, sizeof(log) - 1, 0) > 0);
	assert_non_null(strstr(log, ":2: "));
	assert_non_null(strstr(log, ":5: "));
	assert_non_null(strstr(log, ":6: "));
	assert_non_null(strstr(log, ":9: "));
	assert_null(strstr(log, ":7: "));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_server),	  cmocka_unit_test(test_addresses),
		cmocka_unit_test(test_no_server), cmocka_unit_test(test_names_of_sections),
		cmocka_unit_test(test_same_id),	  cmocka_unit_test(test_too_many),
		cmocka_unit_test(test_groups),	  cmocka_unit_test(test_types),
		cmocka_unit_test(test_values),	  cmocka_unit_test(test_tls),
		cmocka_unit_test(test_users),	  cmocka_unit_test(test_names),
		cmocka_unit_test(test_follow_on),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
