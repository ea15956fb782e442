// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* HTTP CONNECT: what is sent, and what each answer comes to, however it is cut into pieces. */
#include "protocol.h"

#define OK_LINE "HTTP/1.1 200 Connection established\r\n"

static void run(const char *answer, struct outcome *o)
{
	protocol_run(&http_connect_ops, &target, answer, strlen(answer), o);
}

static void assert_sent(const char *text)
{
	struct outcome o;

	run("", &o);
	assert_int_equal(o.result, HANDSHAKE_AGAIN);
	assert_int_equal(o.out_len, strlen(text));
	assert_memory_equal(o.out, text, o.out_len);
}

/* The answer ends before "TUNNEL", which is not taken. */
static void assert_opens(const char *answer)
{
	char all[1024];
	struct outcome o;

	snprintf(all, sizeof(all), "%sTUNNEL", answer);
	run(all, &o);
	assert_int_equal(o.result, HANDSHAKE_DONE);
	assert_int_equal(o.taken, strlen(answer));
}

static void assert_ends(const char *answer, enum handshake_result result, int error,
			const char *why)
{
	struct outcome o;

	run(answer, &o);
	assert_int_equal(o.result, result);
	assert_int_equal(o.error, error);
	assert_string_equal(o.why, why);
}

static void assert_unfinished(const char *answer)
{
	struct outcome o;

	run(answer, &o);
	assert_int_equal(o.result, HANDSHAKE_AGAIN);
}

static void test_ipv4(void **state)
{
	static const char wanted[] =
		"CONNECT 192.0.2.9:443 HTTP/1.1\r\nHost: 192.0.2.9:443\r\n\r\n";

	assert_sent(wanted);
	set_address(&dst, "[::ffff:192.0.2.9]:443");
	assert_sent(wanted);
}

static void test_ipv6(void **state)
{
	set_address(&dst, "[2001:db8::1]:8443");
	assert_sent("CONNECT [2001:db8::1]:8443 HTTP/1.1\r\nHost: [2001:db8::1]:8443\r\n\r\n");
}

static void test_name(void **state)
{
	target.name = "www.example.org";
	assert_sent("CONNECT www.example.org:443 HTTP/1.1\r\nHost: www.example.org:443\r\n\r\n");
}

/* A name cannot add a line to the request. To see it fail: skip the test in protocol_name(). */
static void test_name_with_lines(void **state)
{
	target.name = "a:1 HTTP/1.1\r\nX: y\r\nb";
	assert_sent("CONNECT 192.0.2.9:443 HTTP/1.1\r\nHost: 192.0.2.9:443\r\n\r\n");
}

/* The examples of RFC 7617, 2, and RFC 4648, 10: each length modulo 3. */
static void test_credentials(void **state)
{
	static const struct {
		const char *user, *password, *base64;
	} list[] = {
		{ "Aladdin", "open sesame", "QWxhZGRpbjpvcGVuIHNlc2FtZQ==" },
		{ "test", "123\xc2\xa3", "dGVzdDoxMjPCow==" },
		{ "fo", "b", "Zm86Yg==" },
		{ "fo", "ba", "Zm86YmE=" },
		{ "fo", "bar", "Zm86YmFy" },
	};
	char wanted[256];

	for (size_t i = 0; i < ARRAY_SIZE(list); i++) {
		set_credentials(list[i].user, list[i].password);
		snprintf(wanted, sizeof(wanted),
			 "CONNECT 192.0.2.9:443 HTTP/1.1\r\nHost: 192.0.2.9:443\r\n"
			 "Proxy-Authorization: Basic %s\r\n\r\n",
			 list[i].base64);
		assert_sent(wanted);
		secret_free(conf.secret);
		conf.secret = NULL;
	}
	/* A token in place of the user has no password. */
	snprintf(conf.user, sizeof(conf.user), "fooba");
	assert_sent("CONNECT 192.0.2.9:443 HTTP/1.1\r\nHost: 192.0.2.9:443\r\n"
		    "Proxy-Authorization: Basic Zm9vYmE6\r\n\r\n");
}

static void test_longest_request(void **state)
{
	char user[256], password[256], name[256];
	struct outcome o;

	memset(user, 'u', 255);
	memset(password, 'p', 255);
	memset(name, 'n', 255);
	user[255] = password[255] = name[255] = '\0';
	set_credentials(user, password);
	target.name = name;
	run(OK_LINE "\r\n", &o);
	assert_int_equal(o.result, HANDSHAKE_DONE);
	assert_memory_equal(o.out + o.out_len - 4, "\r\n\r\n", 4);
}

static bool is_partial(const char *server)
{
	struct outcome o;

	run(server, &o);
	assert_int_equal(o.result, HANDSHAKE_AGAIN);
	return o.partial;
}

/*
 * An answer has begun, or an interim one has ended. To see it fail: leave a half of the condition
 * out of http_connect_step().
 */
static void test_partial(void **state)
{
	assert_false(is_partial(""));
	assert_true(is_partial("H"));
	assert_true(is_partial(OK_LINE));
	assert_true(is_partial(OK_LINE "Via: x"));
	assert_false(is_partial("HTTP/1.1 100 Continue\r\n\r\n"));
	assert_true(is_partial("HTTP/1.1 100 Continue\r\n\r\nH"));
}

static void test_opens(void **state)
{
	assert_opens(OK_LINE "\r\n");
	assert_opens("HTTP/1.0 200 OK\r\n\r\n");
	assert_opens("HTTP/1.1 200\r\n\r\n");
	assert_opens("HTTP/1.1 204 No Content\r\n\r\n");
	assert_opens("HTTP/1.1 299 \r\n\r\n");
	assert_opens("HTTP/1.1 200 OK\n\n");
	assert_opens("HTTP/1.1 200 OK\r\n\n");
	assert_opens(OK_LINE "Connection: close\r\nContent-Length: 5\r\n folded\r\n:\r\n\r\n");
	assert_opens(OK_LINE "Proxy-Status: p; error=connection_refused\r\n\r\n");
}

/* Interim answers are skipped. To see it fail: return DONE for them in blank_line(). */
static void test_interim(void **state)
{
	assert_opens("HTTP/1.1 100 Continue\r\n\r\n" OK_LINE "\r\n");
	assert_opens("HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 102\r\n\r\n" OK_LINE
		     "\r\n");
	assert_ends("HTTP/1.1 100\r\n\r\nHTTP/1.1 504 Late\r\n\r\n", HANDSHAKE_ERROR, ETIMEDOUT,
		    "HTTP 504 Late");
	assert_ends("HTTP/1.1 101 Switching Protocols\r\n\r\n", HANDSHAKE_UNUSABLE, EPROTO,
		    "HTTP 101 Switching Protocols");
	assert_unfinished("HTTP/1.1 100 Continue\r\n\r\n");
}

/* A status alone opens nothing. */
static void test_unfinished(void **state)
{
	assert_unfinished("");
	assert_unfinished("HTTP/1.1 200");
	assert_unfinished(OK_LINE);
	assert_unfinished(OK_LINE "\r");
	assert_unfinished(OK_LINE "Via: x\r\n");
	assert_unfinished(OK_LINE "\r\r\n");
	assert_unfinished("HTTP/1.1 502 Bad\r\n");
}

static void test_statuses(void **state)
{
	static const struct {
		int status, error;
	} list[] = {
		{ 403, EACCES },       { 404, EHOSTUNREACH }, { 451, EACCES },
		{ 500, EHOSTUNREACH }, { 502, EHOSTUNREACH }, { 503, ECONNREFUSED },
		{ 504, ETIMEDOUT },
	};
	char answer[64];
	struct outcome o;

	for (int status = 300; status < 600; status++) {
		int error = 0;

		for (size_t i = 0; i < ARRAY_SIZE(list); i++)
			error = list[i].status == status ? list[i].error : error;
		snprintf(answer, sizeof(answer), "HTTP/1.1 %d No\r\n\r\nbody", status);
		run(answer, &o);
		assert_int_equal(o.result, error	   ? HANDSHAKE_ERROR
					   : status == 407 ? HANDSHAKE_UNUSABLE
							   : HANDSHAKE_NOT_SERVED);
		assert_int_equal(o.error, error ? error : status == 407 ? EACCES : EPROTO);
		assert_non_null(strstr(o.why, " No"));
	}
}

/* One answer, no second request. */
static void test_authentication_required(void **state)
{
	struct outcome o;

	set_credentials("fo", "bar");
	run("HTTP/1.1 407 Proxy Authentication Required\r\n"
	    "Proxy-Authenticate: Basic realm=\"x\"\r\n\r\n",
	    &o);
	assert_int_equal(o.result, HANDSHAKE_UNUSABLE);
	assert_int_equal(o.error, EACCES);
	assert_string_equal(o.why, "HTTP 407 Proxy Authentication Required");
	assert_int_equal(o.out_len, o.first_len);
}

static void test_squid_error(void **state)
{
#define SQUID(value) "HTTP/1.1 503 Service Unavailable\r\nX-Squid-Error: " value "\r\n\r\n"
#define WHY	     "HTTP 503 Service Unavailable"
	assert_ends(SQUID("ERR_CONNECT_FAIL 111"), HANDSHAKE_ERROR, ECONNREFUSED, WHY);
	assert_ends(SQUID("ERR_CONNECT_FAIL 110"), HANDSHAKE_ERROR, ETIMEDOUT, WHY);
	assert_ends(SQUID("ERR_CONNECT_FAIL 101"), HANDSHAKE_ERROR, ENETUNREACH, WHY);
	assert_ends(SQUID("ERR_CONNECT_FAIL 113"), HANDSHAKE_ERROR, EHOSTUNREACH, WHY);
	assert_ends(SQUID("ERR_DNS_FAIL 0"), HANDSHAKE_ERROR, EHOSTUNREACH, WHY);
	/* Another number says no more than the status. */
	assert_ends(SQUID("ERR_CONNECT_FAIL 1101"), HANDSHAKE_ERROR, ECONNREFUSED, WHY);
	assert_ends(SQUID("x"), HANDSHAKE_ERROR, ECONNREFUSED, WHY);
	/* To see it fail: look at it with every status in header_field(). */
	assert_ends("HTTP/1.1 403 No\r\nX-Squid-Error: ERR_CONNECT_FAIL 111\r\n\r\n",
		    HANDSHAKE_ERROR, EACCES, "HTTP 403 No");
	assert_ends("HTTP/1.1 429 No\r\nX-Squid-Error: ERR_CONNECT_FAIL 111\r\n\r\n",
		    HANDSHAKE_NOT_SERVED, EPROTO, "HTTP 429 No");
}

static void test_proxy_status(void **state)
{
#define PROXY_STATUS(value) "HTTP/1.1 502 Bad\r\nproxy-STATUS:" value "\r\n\r\n"
	assert_ends(PROXY_STATUS("p;error=connection_refused"), HANDSHAKE_ERROR, ECONNREFUSED,
		    "HTTP 502 Bad");
	assert_ends(PROXY_STATUS(" \"p\"; next-hop=\"x\";  error=connection_timeout; details=\"\""),
		    HANDSHAKE_ERROR, ETIMEDOUT, "HTTP 502 Bad");
	assert_ends(PROXY_STATUS(" p; error=destination_ip_unroutable"), HANDSHAKE_ERROR,
		    ENETUNREACH, "HTTP 502 Bad");
	assert_ends(PROXY_STATUS(" p; error=http_request_denied"), HANDSHAKE_ERROR, EACCES,
		    "HTTP 502 Bad");
	assert_ends(PROXY_STATUS(" p; error=connection_refused_not"), HANDSHAKE_ERROR, EHOSTUNREACH,
		    "HTTP 502 Bad");
	assert_ends(PROXY_STATUS(" p; error="), HANDSHAKE_ERROR, EHOSTUNREACH, "HTTP 502 Bad");
	assert_ends(PROXY_STATUS(""), HANDSHAKE_ERROR, EHOSTUNREACH, "HTTP 502 Bad");
}

/*
 * Parameters are those of RFC 8941: not in a string, by their whole name, the last one of a member.
 * To see it fail: leave skip_string() out of error_parameter(), or its escapes.
 */
static void test_proxy_status_parameters(void **state)
{
#define REFUSED "error=connection_refused"
	static const char *const refused[] = {
		" p; details=\"x; error=connection_timeout\"; " REFUSED,
		" p; details=\"said \\\"; error=connection_timeout; a\"; " REFUSED,
		" p; details=\"\\\\\"; " REFUSED "; details=\"; error=connection_timeout",
		" \"a; error=connection_timeout\"; " REFUSED,
		" p; next-hop-error=connection_timeout; " REFUSED,
		" p; xerror=connection_timeout;" REFUSED,
		" p; error=connection_timeout; " REFUSED,
		" near-server; " REFUSED ", near-client; error=connection_timeout",
		" near-server; next-hop=\"a,b\", near-client; " REFUSED,
	};
	static const char *const none[] = {
		" p; details=\"no; error=connection_timeout\"",
		" p; details=\"cut; error=connection_timeout",
		" p; details=\"cut; error=connection_timeout\\",
		" p; error=\"connection_timeout\"",
		" p error=connection_timeout",
	};
	char answer[256];

	for (size_t i = 0; i < ARRAY_SIZE(refused); i++) {
		snprintf(answer, sizeof(answer), PROXY_STATUS("%s"), refused[i]);
		assert_ends(answer, HANDSHAKE_ERROR, ECONNREFUSED, "HTTP 502 Bad");
	}
	for (size_t i = 0; i < ARRAY_SIZE(none); i++) {
		snprintf(answer, sizeof(answer), PROXY_STATUS("%s"), none[i]);
		assert_ends(answer, HANDSHAKE_ERROR, EHOSTUNREACH, "HTTP 502 Bad");
	}
}

static void test_not_http(void **state)
{
	static const char *const answers[] = {
		"SSH-2.0-OpenSSH_9.2\r\n",  "\r\n",
		"HTTP/2 200 OK\r\n\r\n",    "HTTP/1.1 2000 OK\r\n\r\n",
		"HTTP/1.1 20\r\n\r\n",	    "HTTP/1.1 099 x\r\n\r\n",
		"HTTP/1.1  200 OK\r\n\r\n", "HTTP/1.12 200\r\n",
		"HTTP/1.1 600 x\r\n",
	};

	for (size_t i = 0; i < ARRAY_SIZE(answers); i++)
		assert_ends(answers[i], HANDSHAKE_UNUSABLE, EPROTO, "not an HTTP proxy");
}

/*
 * Bytes that cannot become a status line are not waited for until their newline, after an interim
 * answer either. To see it fail: leave the test of VERSION out of next_byte().
 */
static void test_not_http_at_once(void **state)
{
	static const char *const answers[] = {
		"SSH-2", "\x16\x03\x03", "HTTP/2", "HTTP/1x", "http/1.1", "HTTP/1.1 100 x\r\n\r\nX"
	};

	for (size_t i = 0; i < ARRAY_SIZE(answers); i++)
		assert_ends(answers[i], HANDSHAKE_UNUSABLE, EPROTO, "not an HTTP proxy");
	assert_unfinished("HTTP/1.");
	assert_unfinished("HTTP/1.1 100 x\r\n\r\nHTTP/1.");
}

/* What the log prints is printable, and short. */
static void test_reason(void **state)
{
	static const char answer[] = "HTTP/1.1 403 \33[31mno\0\x80\r\n\r\n";
	struct outcome o;

	protocol_run(&http_connect_ops, &target, answer, sizeof(answer) - 1, &o);
	assert_string_equal(o.why, "HTTP 403 ?[31mno??");
	assert_ends("HTTP/1.1 403 0123456789012345678901234567890123456789more\r\n\r\n",
		    HANDSHAKE_ERROR, EACCES, "HTTP 403 0123456789012345678901234567890123456789");
	assert_ends("HTTP/1.1 403\r\n\r\n", HANDSHAKE_ERROR, EACCES, "HTTP 403");
}

/* 16 KiB are taken, interim answers included; a byte more is not. Long lines count and are cut. */
static void test_limit(void **state)
{
	static const char begin[] = "HTTP/1.1 100 x\r\n\r\n" OK_LINE "Long: ";
	static char answer[16 * 1024 + 2];
	struct outcome o;

	memset(answer, 'x', sizeof(answer) - 1);
	memcpy(answer, begin, sizeof(begin) - 1);
	memcpy(answer + 16 * 1024 - 4, "\r\n\r\n", 5);
	protocol_run_split(&http_connect_ops, &target, answer, 16 * 1024, 1024, 1024, &o);
	assert_int_equal(o.result, HANDSHAKE_DONE);
	assert_int_equal(o.taken, 16 * 1024);
	memcpy(answer + 16 * 1024 - 4, "x\r\n\r\n", 6);
	protocol_run_split(&http_connect_ops, &target, answer, 16 * 1024 + 1, 1024, 1024, &o);
	assert_int_equal(o.result, HANDSHAKE_UNUSABLE);
	assert_int_equal(o.error, EPROTO);
}

/* A line that is cut at its limit is not blank, and is no field. */
static void test_long_lines(void **state)
{
	char answer[1024], line[512];

	for (size_t len = 250; len < 300; len++) {
		memset(line, 'x', len);
		line[len] = '\0';
		snprintf(answer, sizeof(answer), OK_LINE "%s\r\n\r\n", line);
		assert_opens(answer);
	}
}

#define http_test(test) cmocka_unit_test_setup_teardown(test, protocol_setup, protocol_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		http_test(test_ipv4),
		http_test(test_ipv6),
		http_test(test_name),
		http_test(test_name_with_lines),
		http_test(test_credentials),
		http_test(test_longest_request),
		http_test(test_partial),
		http_test(test_opens),
		http_test(test_interim),
		http_test(test_unfinished),
		http_test(test_statuses),
		http_test(test_authentication_required),
		http_test(test_squid_error),
		http_test(test_proxy_status),
		http_test(test_proxy_status_parameters),
		http_test(test_not_http),
		http_test(test_not_http_at_once),
		http_test(test_reason),
		http_test(test_limit),
		http_test(test_long_lines),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
