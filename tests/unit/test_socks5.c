// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* SOCKS5: what is sent, and what each answer comes to, however it is cut into pieces. */
#include "protocol.h"

#define NO_METHOD_NEEDED "\5\0"
#define BOUND		 "\5\0\0\1\0\0\0\0\0\0"

static void run(const char *server, size_t len, struct outcome *o)
{
	protocol_run(&socks5_ops, &target, server, len, o);
}

#define run_text(text, o) run(text, sizeof(text) - 1, o)

#define assert_sent(o, text)                                                                       \
	do {                                                                                       \
		assert_int_equal((o)->out_len, sizeof(text) - 1);                                  \
		assert_memory_equal((o)->out, text, sizeof(text) - 1);                             \
	} while (0)

static void assert_ends(const char *server, size_t len, enum handshake_result result, int error)
{
	struct outcome o;

	run(server, len, &o);
	assert_int_equal(o.result, result);
	assert_int_equal(o.error, error);
	assert_true(*o.why);
}

/* The request waits until the server has chosen. To see it fail: let greet() pipeline always. */
static void test_ipv4(void **state)
{
	struct outcome o;

	run_text(NO_METHOD_NEEDED BOUND, &o);
	assert_int_equal(o.result, HANDSHAKE_DONE);
	assert_int_equal(o.taken, 12);
	assert_int_equal(o.first_len, 3);
	assert_sent(&o, "\5\1\0\5\1\0\1\300\0\2\x09\x01\xbb");
}

static bool accepts(const char *server, size_t len)
{
	struct outcome o;

	run(server, len, &o);
	return o.accepted;
}

/*
 * The server is at work when it wants no more of us, before it has reached the destination. A trial
 * ends then. To see it fail: do not set handshake_io::accepted, or set it in method_chosen().
 */
static void test_accepted(void **state)
{
	assert_false(accepts("", 0));
	assert_false(accepts("\5", 1));
	assert_true(accepts(NO_METHOD_NEEDED, 2));
	assert_false(accepts("\5\xff", 2));
	set_credentials("alice", "s3cret");
	assert_false(accepts("\5\2", 2));
	assert_false(accepts("\5\2\1\1", 4));
	assert_true(accepts("\5\2\1\0", 4));
}

static bool is_partial(const char *server, size_t len)
{
	struct outcome o;

	run(server, len, &o);
	assert_int_equal(o.result, HANDSHAKE_AGAIN);
	return o.partial;
}

/* To see it fail: leave one of the versions out of is_within_answer(). */
static void test_partial(void **state)
{
	assert_false(is_partial("", 0));
	assert_true(is_partial("\5", 1));
	assert_false(is_partial(NO_METHOD_NEEDED, 2));
	assert_true(is_partial(NO_METHOD_NEEDED BOUND, 3));
	assert_true(is_partial(NO_METHOD_NEEDED BOUND, 4));
	assert_true(is_partial(NO_METHOD_NEEDED BOUND, 11));
	set_credentials("alice", "s3cret");
	assert_false(is_partial("\5\2", 2));
	assert_true(is_partial("\5\2\1", 3));
	assert_false(is_partial("\5\2\1\0", 4));
}

static void test_pipelined(void **state)
{
	struct outcome o;

	conf.pipeline = true;
	run_text(NO_METHOD_NEEDED BOUND, &o);
	assert_int_equal(o.result, HANDSHAKE_DONE);
	assert_int_equal(o.first_len, 13);
	assert_sent(&o, "\5\1\0\5\1\0\1\300\0\2\x09\x01\xbb");
}

static void test_mapped_is_ipv4(void **state)
{
	struct outcome o;

	set_address(&dst, "[::ffff:192.0.2.9]:443");
	run_text(NO_METHOD_NEEDED BOUND, &o);
	assert_sent(&o, "\5\1\0\5\1\0\1\300\0\2\x09\x01\xbb");
}

static void test_ipv6(void **state)
{
	struct outcome o;

	set_address(&dst, "[2001:db8::1]:80");
	run_text(NO_METHOD_NEEDED BOUND, &o);
	assert_sent(&o, "\5\1\0\5\1\0\4\x20\1\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\1\0\x50");
}

static void test_name(void **state)
{
	struct outcome o;

	target.name = "www.example.org";
	run_text(NO_METHOD_NEEDED BOUND, &o);
	assert_sent(&o, "\5\1\0\5\1\0\3\x0fwww.example.org\x01\xbb");
}

/* 255 bytes fit, a longer or odd name is not sent. To see it fail: see protocol_name(). */
static void test_names_that_do_not_fit(void **state)
{
	static const char *const names[] = { "", "a b", "a\r\nb", "a\xc3\xa4", "[::1]", "a/b" };
	char name[257];
	struct outcome o;

	memset(name, 'n', sizeof(name));
	name[256] = '\0';
	target.name = name;
	run_text(NO_METHOD_NEEDED BOUND, &o);
	assert_sent(&o, "\5\1\0\5\1\0\1\300\0\2\x09\x01\xbb");
	name[255] = '\0';
	run_text(NO_METHOD_NEEDED BOUND, &o);
	assert_int_equal(o.out_len, 3 + 5 + 255 + 2);
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		target.name = names[i];
		run_text(NO_METHOD_NEEDED BOUND, &o);
		assert_sent(&o, "\5\1\0\5\1\0\1\300\0\2\x09\x01\xbb");
	}
}

/* BND.ADDR of each type; the first byte of the tunnel is not taken. */
static void test_bound_addresses(void **state)
{
	static const struct {
		const char *bytes;
		size_t len;
	} replies[] = {
		{ "\5\0\5\0\0\1\1\2\3\4\5\6TUNNEL", 12 },
		{ "\5\0\5\0\7\4"
		  "0123456789abcdef\5\6TUNNEL",
		  24 },
		{ "\5\0\5\0\0\3\0\5\6TUNNEL", 9 },
		{ "\5\0\5\0\0\3\5proxy\5\6TUNNEL", 14 },
	};
	char longest[2 + 5 + 255 + 2 + 6];
	struct outcome o;

	for (size_t i = 0; i < ARRAY_SIZE(replies); i++) {
		run(replies[i].bytes, replies[i].len + 6, &o);
		assert_int_equal(o.result, HANDSHAKE_DONE);
		assert_int_equal(o.taken, replies[i].len);
	}
	memset(longest, 'x', sizeof(longest));
	memcpy(longest, "\5\0\5\0\0\3\377", 7);
	run(longest, sizeof(longest), &o);
	assert_int_equal(o.result, HANDSHAKE_DONE);
	assert_int_equal(o.taken, sizeof(longest) - 6);
}

/* Each shorter answer waits for more. */
static void test_unfinished(void **state)
{
	static const char answer[] = NO_METHOD_NEEDED BOUND;
	struct outcome o;

	for (size_t n = 0; n < sizeof(answer) - 1; n++) {
		run(answer, n, &o);
		assert_int_equal(o.result, HANDSHAKE_AGAIN);
	}
}

/* The errno of each reply. Two bytes of it are enough, as a server may close after them. */
static void test_replies(void **state)
{
	static const int errors[256] = { [1] = EHOSTUNREACH, EACCES,	   ENETUNREACH,
					 EHOSTUNREACH,	     ECONNREFUSED, ETIMEDOUT };

	for (int reply = 1; reply < 256; reply++) {
		const char answer[] = { 5, 0, 5, (char)reply };

		assert_ends(answer, sizeof(answer),
			    errors[reply] ? HANDSHAKE_ERROR : HANDSHAKE_NOT_SERVED,
			    errors[reply] ? errors[reply] : EPROTO);
	}
}

static void test_methods(void **state)
{
	assert_ends("\5\377", 2, HANDSHAKE_UNUSABLE, EACCES);
	assert_ends("\5\2", 2, HANDSHAKE_UNUSABLE, EPROTO);
	assert_ends("\5\1", 2, HANDSHAKE_UNUSABLE, EPROTO);
	assert_ends("\4\0", 2, HANDSHAKE_UNUSABLE, EPROTO);
	assert_ends("HTTP/1.1 400", 12, HANDSHAKE_UNUSABLE, EPROTO);
	assert_ends("\5\0\4\0", 4, HANDSHAKE_UNUSABLE, EPROTO);
	assert_ends("\5\0\5\0\0\2", 6, HANDSHAKE_UNUSABLE, EPROTO);
}

/* The password is sent to a server that asks for it, and the request after it was accepted. */
static void test_password(void **state)
{
	struct outcome o;

	set_credentials("alice", "s3cret");
	run_text("\5\2\1\0" BOUND "TUNNEL", &o);
	assert_int_equal(o.result, HANDSHAKE_DONE);
	assert_int_equal(o.taken, 14);
	assert_int_equal(o.first_len, 4);
	assert_sent(&o, "\5\2\0\2\1\5alice\6s3cret\5\1\0\1\300\0\2\x09\x01\xbb");
	run_text("\5\2\1", &o);
	assert_sent(&o, "\5\2\0\2\1\5alice\6s3cret");
	run_text("\5\2\5\0", &o);
	assert_int_equal(o.result, HANDSHAKE_AGAIN);
	conf.pipeline = true;
	run_text("\5\2", &o);
	assert_int_equal(o.first_len, 4);
	assert_sent(&o, "\5\2\0\2\1\5alice\6s3cret\5\1\0\1\300\0\2\x09\x01\xbb");
	run_text("\5\2\1\0" BOUND, &o);
	assert_sent(&o, "\5\2\0\2\1\5alice\6s3cret\5\1\0\1\300\0\2\x09\x01\xbb");
}

/* A server that asks for none does not get the password. */
static void test_password_not_wanted(void **state)
{
	struct outcome o;

	set_credentials("alice", "s3cret");
	run_text(NO_METHOD_NEEDED BOUND, &o);
	assert_int_equal(o.result, HANDSHAKE_DONE);
	assert_sent(&o, "\5\2\0\2\5\1\0\1\300\0\2\x09\x01\xbb");
}

static void test_password_refused(void **state)
{
	set_credentials("alice", "wrong");
	assert_ends("\5\2\1\1", 4, HANDSHAKE_UNUSABLE, EACCES);
	assert_ends("\5\2\1\377", 4, HANDSHAKE_UNUSABLE, EACCES);
	assert_ends("\5\377", 2, HANDSHAKE_UNUSABLE, EACCES);
	assert_ends("\5\2\7\0", 4, HANDSHAKE_UNUSABLE, EPROTO);
}

static void test_password_of_all_lengths(void **state)
{
	char user[256], password[256];
	struct outcome o;

	memset(user, 'u', 255);
	memset(password, 'p', 255);
	user[255] = password[255] = '\0';
	set_credentials(user, password);
	run_text("\5\2\1\0" BOUND, &o);
	assert_int_equal(o.result, HANDSHAKE_DONE);
	assert_int_equal(o.out_len, 4 + 3 + 255 + 255 + 10);
	secret_free(conf.secret);
	conf.secret = NULL;
	assert_ends("\5\2", 2, HANDSHAKE_UNUSABLE, EINVAL);
}

#define socks5_test(test) cmocka_unit_test_setup_teardown(test, protocol_setup, protocol_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		socks5_test(test_ipv4),
		socks5_test(test_accepted),
		socks5_test(test_partial),
		socks5_test(test_pipelined),
		socks5_test(test_mapped_is_ipv4),
		socks5_test(test_ipv6),
		socks5_test(test_name),
		socks5_test(test_names_that_do_not_fit),
		socks5_test(test_bound_addresses),
		socks5_test(test_unfinished),
		socks5_test(test_replies),
		socks5_test(test_methods),
		socks5_test(test_password),
		socks5_test(test_password_not_wanted),
		socks5_test(test_password_refused),
		socks5_test(test_password_of_all_lengths),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
