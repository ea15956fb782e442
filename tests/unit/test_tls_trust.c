// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Tests whom a bridge trusts (proxy/upstream/tls_context.c, trust.c, trust_system.c and
 * trust_directory.c): which certificates are refused, which authorities are read, from files and
 * from the directories of the system, and that a context knows when they have changed.
 */
#include "bridges.h"

#include <sys/stat.h>
#include <time.h>

#include "upstream/trust.h"

/* To see these fail: leave SSL_CTX_set_verify() out of set_verification(). */
static void test_wrong_authority(void **state)
{
	use_context("proxy.example.org", other_file, true);
	refused(serve_nothing, "unable to get local issuer certificate");
}

static void test_wrong_name(void **state)
{
	use_context("other.example.org", ca_file, true);
	refused(serve_nothing, "ostname mismatch");
}

static void test_wrong_address(void **state)
{
	use_context("127.0.0.2", ca_file, true);
	refused(serve_nothing, "IP address mismatch");
}

static void test_expired(void **state)
{
	f.identity = &expired;
	refused(serve_nothing, "certificate has expired");
}

static void test_not_verified(void **state)
{
	f.identity = &expired;
	use_context("other.example.org", NULL, false);
	start_server(serve_nothing);
	start_bridge();
	run_until(f.opened);
}

static void test_bad_settings(void **state)
{
	static const struct tls_settings no_name = { .name = "", .verify = true },
					 no_file = { .name = "a", .ca = "/x/y", .verify = true };
	struct tls_context *context = NULL;
	char why[TLS_WHY_LEN];

	assert_int_equal(tls_context_new(&no_name, &context, why), -EINVAL);
	assert_int_equal(tls_context_new(&no_file, &context, why), -ENOENT);
	assert_non_null(strstr(why, "/x/y"));
	assert_null(context);
}

static void expect_no_context(const char *path, int r, const char *reason)
{
	const struct tls_settings settings = { .name = "a", .ca = path, .verify = true };
	struct tls_context *context = NULL;
	char why[TLS_WHY_LEN];

	assert_int_equal(tls_context_new(&settings, &context, why), r);
	if (!strstr(why, path) || !strstr(why, reason))
		fail_msg("\"%s\" and \"%s\" are not in \"%s\"", path, reason, why);
	assert_null(context);
}

/*
 * Files that could block the thread or fill its memory, and files without certificates. To see it
 * fail: leave O_NONBLOCK, S_ISREG() or TRUST_FILE_MAX out of open_file() in trust.c.
 */
static void test_bad_files(void **state)
{
	char path[] = "/tmp/tproxy-test-tls-XXXXXX";
	int fd = mkstemp(path);

	assert_return_code(fd, errno);
	expect_no_context(path, -EINVAL, "it has none (PEM)");
	assert_int_equal(write(fd, "-----BEGIN CERTIFICATE-----\nx\n", 30), 30);
	expect_no_context(path, -EINVAL, "no certificates from");
	assert_return_code(ftruncate(fd, TRUST_FILE_MAX + 1), errno);
	expect_no_context(path, -EFBIG, "it is larger than 512 KiB");
	close(fd);
	unlink(path);
	assert_return_code(mkfifo(path, 0600), errno);
	expect_no_context(path, -EINVAL, "it is not a regular file");
	unlink(path);
	expect_no_context(path, -ENOENT, "No such file or directory");
	expect_no_context("/tmp", -EINVAL, "it is not a regular file");
	expect_no_context("/dev/zero", -EINVAL, "it is not a regular file");
}

/* Waits until a change of the file has another time: the kernel's clock has ticks. */
static void let_time_pass(const char *path)
{
	struct timespec now;
	struct stat st;

	assert_return_code(stat(path, &st), errno);
	do {
		clock_gettime(CLOCK_REALTIME_COARSE, &now);
	} while (now.tv_sec < st.st_ctim.tv_sec ||
		 (now.tv_sec == st.st_ctim.tv_sec && now.tv_nsec <= st.st_ctim.tv_nsec));
}

/* Sets where the system's certificates are. */
static void use_system(const char *file, const char *directories)
{
	setenv(X509_get_default_cert_file_env(), file, 1);
	setenv(X509_get_default_cert_dir_env(), directories, 1);
}

/*
 * The file of SSL_CERT_FILE is opened with the same care, and noticed when it changes. To see it
 * fail: call SSL_CTX_set_default_verify_paths() in set_trust() (it waits for a writer).
 */
static void test_system_file(void **state)
{
	const struct tls_settings settings = { .name = "proxy.example.org", .verify = true };
	char path[] = "/tmp/tproxy-test-tls-XXXXXX", why[TLS_WHY_LEN];
	struct tls_context *context = NULL;

	write_certificate(&ca, path);
	use_system(path, "");
	use_context(settings.name, NULL, true);
	assert_int_equal(truncate(path, 0), 0);
	assert_true(tls_context_is_stale(f.context));
	unlink(path);
	assert_int_equal(tls_context_new(&settings, &context, why), -ENOENT);
	assert_return_code(mkfifo(path, 0600), errno);
	assert_int_equal(tls_context_new(&settings, &context, why), -EINVAL);
	unlink(path);
	assert_null(context);
	if (strncmp(why, "SSL_CERT_FILE: ", 15) || !strstr(why, path) ||
	    !strstr(why, "it is not a regular file"))
		fail_msg("\"%s\"", why);
	start_server(serve_nothing);
	start_bridge();
	run_until(f.opened);
}

/* Makes DIRECTORY/HASH.N for an authority. */
static void link_hash(const char *directory, int n, const char *to)
{
	char path[256];

	snprintf(path, sizeof(path), "%s/%08lx.%d", directory,
		 X509_NAME_hash(X509_get_subject_name(ca.cert)), n);
	assert_return_code(to ? symlink(to, path) : mkfifo(path, 0600), errno);
}

static void remove_directory(const char *directory)
{
	char path[256];
	int i;

	for (i = 0; i < 3; i++) {
		snprintf(path, sizeof(path), "%s/%08lx.%d", directory,
			 X509_NAME_hash(X509_get_subject_name(ca.cert)), i);
		unlink(path);
	}
	assert_return_code(rmdir(directory), errno);
}

/*
 * The directories of SSL_CERT_DIR, with a pipe and an expired authority of the same name before the
 * right one. They are read when a certificate is verified, so that authorities are found that came
 * later. What was read stays in the context, so it knows that the directory has changed. To see it
 * fail: let load_hash() stop at what trust_load() refuses; leave O_NONBLOCK out of open_file() in
 * trust.c; let trust_directory_state() return 0.
 */
static void test_system_directory(void **state)
{
	char directory[] = "/tmp/tproxy-test-tls-XXXXXX", directories[64],
	     same[] = "/tmp/tproxy-test-tls-XXXXXX";
	struct identity old;

	assert_non_null(mkdtemp(directory));
	make_identity(&old, &old, "authority", NULL, -1);
	write_certificate(&old, same);
	free_identity(&old);
	snprintf(directories, sizeof(directories), "/nonexistent::%s", directory);
	use_system("", directories);
	let_time_pass(directory);
	use_context("proxy.example.org", NULL, true);
	assert_false(tls_context_is_stale(f.context));
	link_hash(directory, 0, NULL);
	assert_true(tls_context_is_stale(f.context));
	link_hash(directory, 1, same);
	link_hash(directory, 2, ca_file);
	start_server(serve_nothing);
	start_bridge();
	run_until(f.opened || f.failed);
	remove_directory(directory);
	unlink(same);
	assert_string_equal(f.why, "");
	assert_int_equal(f.opened, 1);
}

static void test_system_without(void **state)
{
	use_system("", "/nonexistent");
	use_context("proxy.example.org", NULL, true);
	refused(serve_nothing, "unable to get local issuer certificate");
}

static void make_crl(FILE *file)
{
	X509_CRL *crl = X509_CRL_new();
	ASN1_TIME *now = X509_gmtime_adj(NULL, 0);

	X509_CRL_set_issuer_name(crl, X509_get_subject_name(ca.cert));
	X509_CRL_set1_lastUpdate(crl, now);
	X509_CRL_set1_nextUpdate(crl, now);
	assert_true(X509_CRL_sign(crl, ca.key, EVP_sha256()) > 0);
	assert_int_equal(PEM_write_X509_CRL(file, crl), 1);
	ASN1_TIME_free(now);
	X509_CRL_free(crl);
}

/*
 * Several certificates in one file, one of them twice, with text, a revocation list and an
 * encrypted key, for which nobody is asked. To see it fail: let add_all() take the first
 * certificate only.
 */
static void test_bundle(void **state)
{
	char path[] = "/tmp/tproxy-test-tls-XXXXXX", phrase[] = "phrase";
	FILE *file = fdopen(mkstemp(path), "w");

	assert_non_null(file);
	fputs("# text\n", file);
	assert_int_equal(PEM_write_X509(file, other_ca.cert), 1);
	make_crl(file);
	assert_int_equal(
		PEM_write_PKCS8PrivateKey(file, ca.key, EVP_aes_128_cbc(), phrase, 6, NULL, NULL),
		1);
	assert_int_equal(PEM_write_X509(file, ca.cert), 1);
	assert_int_equal(PEM_write_X509(file, ca.cert), 1);
	fclose(file);
	use_context("proxy.example.org", path, true);
	unlink(path);
	start_server(serve_nothing);
	start_bridge();
	run_until(f.opened);
}

/*
 * A context knows that its file was replaced, may not be read by others any more, or is gone:
 * reading it again is what finds that out. To see it fail: let trust_mix_state() take st_mtim, or
 * let tls_context_is_stale() return false if the file is gone.
 */
static void test_stale(void **state)
{
	char path[] = "/tmp/tproxy-test-tls-XXXXXX";

	write_certificate(&ca, path);
	use_context("proxy.example.org", path, true);
	assert_false(tls_context_is_stale(f.context));
	let_time_pass(path);
	assert_return_code(chmod(path, 0), errno);
	assert_true(tls_context_is_stale(f.context));
	assert_int_equal(rename(other_file, path), 0);
	tls_context_unref(f.context);
	use_context("proxy.example.org", path, true);
	assert_false(tls_context_is_stale(f.context));
	rename(path, other_file);
	assert_true(tls_context_is_stale(f.context));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		bridge_test(test_wrong_authority),  bridge_test(test_wrong_name),
		bridge_test(test_wrong_address),    bridge_test(test_expired),
		bridge_test(test_not_verified),	    bridge_test(test_bad_settings),
		bridge_test(test_bad_files),	    bridge_test(test_system_file),
		bridge_test(test_system_directory), bridge_test(test_system_without),
		bridge_test(test_bundle),	    bridge_test(test_stale),
	};

	return cmocka_run_group_tests(tests, make_certificates, free_certificates);
}
