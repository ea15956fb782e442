// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Tests passwords (proxy/upstream/secret.c): the form and the mode of their files, credentials of
 * the unit, the upstreams that they belong to, and the memory in which they are.
 */
#include "conf_file.h"
#include "upstream/secret.h"

static void expect_secret(const char *bytes, size_t len, const char *expected)
{
	char error[SECRET_ERROR_LEN] = "";
	struct secret *secret = NULL;
	const uint8_t *got;
	size_t got_len;

	write_file(password_path, bytes, len, 0600);
	assert_int_equal(secret_read_file(password_path, &secret, error), 0);
	got = secret_bytes(secret, &got_len);
	assert_int_equal(got_len, strlen(expected));
	assert_memory_equal(got, expected, got_len);
	secret_free(secret);
}

/* The message has "FILE" for the path. */
static void expect_no_secret(int r, const char *text)
{
	const char *file = strstr(text, "FILE");
	char error[SECRET_ERROR_LEN] = "", expected[SECRET_ERROR_LEN];
	struct secret *secret = NULL;

	assert_int_equal(secret_read_file(password_path, &secret, error), r);
	snprintf(expected, sizeof(expected), "%.*s%s%s", (int)(file - text), text, password_path,
		 file + strlen("FILE"));
	assert_string_equal(error, expected);
	assert_null(secret);
}

/* The form of the file. No byte of it is in a message. */
static void test_password_file(void **state)
{
	char long_text[SECRET_MAX + 8];

	expect_secret("hunter2", 7, "hunter2");
	expect_secret("hunter2\n", 8, "hunter2");
	expect_secret("hunter2\r\n", 9, "hunter2");
	expect_secret("hunter2\r", 8, "hunter2\r");
	expect_secret("hunter2\r\r\n", 10, "hunter2\r");
	expect_secret(" a:b \xc3\xbc \n", 9, " a:b \xc3\xbc ");
	memset(long_text, 'p', sizeof(long_text));
	strcpy(long_text + SECRET_MAX, "\r\n");
	long_text[SECRET_MAX + 2] = '\0';
	write_file(password_path, long_text, SECRET_MAX + 2, 0600);
	long_text[SECRET_MAX] = '\0';
	expect_secret(long_text, SECRET_MAX, long_text);
	memset(long_text, 'p', sizeof(long_text));
	write_file(password_path, long_text, SECRET_MAX + 1, 0600);
	expect_no_secret(-EINVAL, "the password in 'FILE' is longer than 255 bytes");
	write_file(password_path, long_text, sizeof(long_text), 0600);
	expect_no_secret(-EINVAL, "the password in 'FILE' is longer than 255 bytes");
	write_file(password_path, "", 0, 0600);
	expect_no_secret(-EINVAL, "'FILE' is empty; its line is the password");
	write_file(password_path, "\n", 1, 0600);
	expect_no_secret(-EINVAL, "'FILE' is empty; its line is the password");
	write_file(password_path, "one\ntwo\n", 8, 0600);
	expect_no_secret(-EINVAL, "'FILE' has more than one line; one is the password");
	write_file(password_path, "one\0two", 7, 0600);
	expect_no_secret(-EINVAL, "'FILE' contains a NUL byte");
	unlink(password_path);
	expect_no_secret(-ENOENT, "cannot read 'FILE': No such file or directory");
	assert_return_code(mkfifo(password_path, 0600), errno);
	expect_no_secret(-EINVAL, "'FILE' is not a regular file");
	unlink(password_path);
}

/* To see it fail: let check_file() ignore the mode. */
static void test_password_mode(void **state)
{
	static const struct {
		mode_t mode;
		const char *error;
	} wrong[] = {
		{ 0640, "'FILE' has mode 0640: others may read it; set it to 0600" },
		{ 0604, "'FILE' has mode 0604: others may read it; set it to 0600" },
		{ 0620, "'FILE' has mode 0620: others may change it; set it to 0600" },
		{ 0601, "'FILE' has mode 0601: others may execute it; set it to 0600" },
		{ 0000, "'FILE' has mode 0000: its owner may not read it; set it to 0600" },
		{ 0200, "'FILE' has mode 0200: its owner may not read it; set it to 0600" },
	};
	size_t i;

	for (i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		/* Only root can open a file that its owner may not read. */
		if (!(wrong[i].mode & 0400) && geteuid() != 0)
			continue;
		write_file(password_path, "x", 1, wrong[i].mode);
		expect_no_secret(-EPERM, wrong[i].error);
	}
	write_file(password_path, "x", 1, 0400);
	expect_secret("x", 1, "x");
}

static void test_credential(void **state)
{
	char error[SECRET_ERROR_LEN] = "", expected[SECRET_ERROR_LEN];
	struct secret *secret = NULL;
	size_t len;

	unsetenv("CREDENTIALS_DIRECTORY");
	assert_int_equal(secret_read_credential("password", &secret, error), -ENOENT);
	assert_string_equal(error, "there is no $CREDENTIALS_DIRECTORY; have "
				   "LoadCredential=password:FILE in the relay's unit");
	setenv("CREDENTIALS_DIRECTORY", directory, 1);
	write_file(password_path, "hunter2\n", 8, 0440);
	assert_int_equal(secret_read_credential("password", &secret, error), 0);
	assert_memory_equal(secret_bytes(secret, &len), "hunter2", 7);
	assert_int_equal(len, 7);
	secret_free(secret);
	secret = NULL;
	write_file(password_path, "hunter2\n", 8, 0444);
	assert_int_equal(secret_read_credential("password", &secret, error), -EPERM);
	snprintf(expected, sizeof(expected),
		 "'%s' has mode 0444: others may read it; set it to 0440", password_path);
	assert_string_equal(error, expected);
	assert_null(secret);
	/* To see it fail: look at all bits of the mode in access_name(): its group may read it. */
	write_file(password_path, "hunter2\n", 8, 0460);
	assert_int_equal(secret_read_credential("password", &secret, error), -EPERM);
	snprintf(expected, sizeof(expected),
		 "'%s' has mode 0460: others may change it; set it to 0440", password_path);
	assert_string_equal(error, expected);
}

/* Passwords of all upstreams; a failure names the key's line. */
static void test_read_secrets(void **state)
{
	char text[512], log[LOG_LEN] = "", expected[LOG_LEN];
	size_t len;

	write_file(password_path, "hunter2\n", 8, 0600);
	snprintf(text, sizeof(text),
		 "[upstream a]\ntype = tcp\naddress = x:1\n"
		 "[upstream b]\ntype = socks5\naddress = x:1\nuser = u\npassword-file = %s\n",
		 password_path);
	expect_good(text);
	assert_int_equal(upstream_config_read_secrets(&conf, path), 0);
	assert_null(conf.list[0].secret);
	assert_memory_equal(secret_bytes(conf.list[1].secret, &len), "hunter2", 7);
	unlink(password_path);
	expect_good(text);
	assert_return_code(dup2(log_fd, STDERR_FILENO), errno);
	assert_int_equal(upstream_config_read_secrets(&conf, path), -ENOENT);
	assert_return_code(dup2(stderr_fd, STDERR_FILENO), errno);
	assert_true(pread(log_fd, log, sizeof(log) - 1, 0) > 0);
	snprintf(expected, sizeof(expected),
		 "test: %s:8: password-file: cannot read '%s': No such file or directory\n", path,
		 password_path);
	assert_string_equal(log, expected);
}

/*
 * The page is left out of core dumps: VmFlags has "dd". To see it fail: leave out madvise() in
 * secret_memory_new().
 */
static void test_page(void **state)
{
	struct secret *secret = NULL, *other = NULL;
	char line[256], flags[256] = "";
	unsigned long start, end;
	bool inside = false;
	const uint8_t *page;
	size_t len;
	FILE *f;

	assert_int_equal(secret_new("hunter2", 7, &secret), 0);
	page = secret_bytes(secret, &len);
	f = fopen("/proc/self/smaps", "r");
	assert_non_null(f);
	while (fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%lx-%lx ", &start, &end) == 2)
			inside = (unsigned long)page >= start && (unsigned long)page < end;
		else if (inside && strncmp(line, "VmFlags:", 8) == 0)
			strcpy(flags, line);
	}
	fclose(f);
	assert_non_null(strstr(flags, " dd"));
	assert_null(strstr(flags, " wr"));
	assert_int_equal(secret_new("hunter3", 7, &other), 0);
	assert_true(secret_equal(NULL, NULL) && secret_equal(secret, secret));
	assert_false(secret_equal(secret, NULL) || secret_equal(secret, other));
	secret_free(secret);
	secret_free(other);
	secret_free(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_password_file), cmocka_unit_test(test_password_mode),
		cmocka_unit_test(test_credential),    cmocka_unit_test(test_read_secrets),
		cmocka_unit_test(test_page),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
