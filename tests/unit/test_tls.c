// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Tests bridges (proxy/upstream/tls.c) with a TLS server in a thread of this test. The test makes
 * its certificates itself, runs the event loop of the bridge, and uses the near end.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

#include "monotonic.h"
#include "upstream/sock.h"
#include "unit.h"
#include "upstream/tls.h"
#include "upstream/trust.h"
#include "util.h"

#define WAIT_MS 20000

/* A certificate and its key. */
struct identity {
	X509 *cert;
	EVP_PKEY *key;
};

static struct identity ca, other_ca, server, expired;
static char ca_file[] = "/tmp/tproxy-test-tls-XXXXXX", other_file[] = "/tmp/tproxy-test-tls-XXXXXX";

static struct fixture {
	struct event_base *base;
	struct tls_home home;
	struct tls_context *context;
	struct tls_bridge *bridge;
	int near;
	int opened, failed; /* calls of on_done() */
	int error;
	char why[TLS_WHY_LEN];
	int ended;	    /* calls of tls_home::on_end */
	bool close_on_done; /* on_done() closes the bridge */
	/* The server: */
	int listener;
	struct sockaddr_in addr;
	pthread_t thread;
	bool running;
	const struct identity *identity;
	int version; /* 0: any */
	SSL_CTX *ctx;
	void (*serve)(struct fixture *f, SSL *ssl, int fd);
	_Atomic int stage; /* told by the server, or to it */
	_Atomic size_t moved, asked;
} f;

static char pattern(size_t i)
{
	return (char)(i * 31 + i / 251 + i / 65521);
}

/* Certificates */

static void add_extension(X509 *cert, X509 *issuer, int nid, const char *value)
{
	X509_EXTENSION *extension;
	X509V3_CTX ctx;

	X509V3_set_ctx(&ctx, issuer, cert, NULL, NULL, 0);
	extension = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
	assert_non_null(extension);
	X509_add_ext(cert, extension, -1);
	X509_EXTENSION_free(extension);
}

static void make_identity(struct identity *id, const struct identity *issuer, const char *name,
			  const char *names, long days)
{
	static long serial = 1;
	EVP_PKEY_CTX *keygen = EVP_PKEY_CTX_new_id(EVP_PKEY_EC, NULL);
	X509_NAME *subject;

	id->key = NULL;
	assert_int_equal(EVP_PKEY_keygen_init(keygen), 1);
	assert_int_equal(EVP_PKEY_CTX_set_ec_paramgen_curve_nid(keygen, NID_X9_62_prime256v1), 1);
	assert_int_equal(EVP_PKEY_keygen(keygen, &id->key), 1);
	EVP_PKEY_CTX_free(keygen);
	id->cert = X509_new();
	X509_set_version(id->cert, 2);
	ASN1_INTEGER_set(X509_get_serialNumber(id->cert), serial++);
	X509_gmtime_adj(X509_getm_notBefore(id->cert), -2 * 24 * 3600);
	X509_gmtime_adj(X509_getm_notAfter(id->cert), days * 24 * 3600);
	X509_set_pubkey(id->cert, id->key);
	subject = X509_get_subject_name(id->cert);
	X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC, (const unsigned char *)name, -1, -1,
				   0);
	X509_set_issuer_name(id->cert, X509_get_subject_name(issuer->cert));
	add_extension(id->cert, issuer->cert, NID_basic_constraints,
		      names ? "critical,CA:FALSE" : "critical,CA:TRUE");
	if (names)
		add_extension(id->cert, issuer->cert, NID_subject_alt_name, names);
	assert_true(X509_sign(id->cert, issuer->key, EVP_sha256()) > 0);
}

static void free_identity(struct identity *id)
{
	X509_free(id->cert);
	EVP_PKEY_free(id->key);
}

static void write_certificate(const struct identity *id, char *path)
{
	FILE *file = fdopen(mkstemp(path), "w");

	assert_non_null(file);
	assert_int_equal(PEM_write_X509(file, id->cert), 1);
	fclose(file);
}

static int make_certificates(void **state)
{
	static const char names[] = "DNS:proxy.example.org,IP:127.0.0.1";

	signal(SIGPIPE, SIG_IGN);
	make_identity(&ca, &ca, "authority", NULL, 2);
	make_identity(&other_ca, &other_ca, "other authority", NULL, 2);
	make_identity(&server, &ca, "proxy", names, 2);
	make_identity(&expired, &ca, "proxy", names, -1);
	write_certificate(&ca, ca_file);
	write_certificate(&other_ca, other_file);
	return 0;
}

static int free_certificates(void **state)
{
	free_identity(&ca);
	free_identity(&other_ca);
	free_identity(&server);
	free_identity(&expired);
	unlink(ca_file);
	unlink(other_file);
	return 0;
}

/* The server */

static void *server_main(void *arg)
{
	int fd = accept(f.listener, NULL, NULL);
	const struct timeval limit = { .tv_sec = WAIT_MS / 1000 };
	SSL *ssl;

	assert_true(fd >= 0);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	if (!f.identity) {
		f.serve(&f, NULL, fd);
		return NULL;
	}
	ssl = SSL_new(f.ctx);
	SSL_set_fd(ssl, fd);
	if (SSL_accept(ssl) == 1)
		f.serve(&f, ssl, fd);
	else
		close(fd);
	SSL_free(ssl);
	ERR_clear_error();
	return NULL;
}

static int choose_name(SSL *ssl, int *alert, void *arg)
{
	const char *name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);

	f.stage = name && strcmp(name, "proxy.example.org") == 0 ? 1 : 0;
	return SSL_TLSEXT_ERR_OK;
}

static SSL_CTX *server_context(const struct identity *id, int version)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());

	SSL_CTX_set_max_proto_version(ctx, version);
	SSL_CTX_use_certificate(ctx, id->cert);
	SSL_CTX_use_PrivateKey(ctx, id->key);
	SSL_CTX_set_tlsext_servername_callback(ctx, choose_name);
	return ctx;
}

static void start_server(void (*serve)(struct fixture *, SSL *, int))
{
	f.serve = serve;
	f.stage = 0;
	f.moved = f.asked = 0;
	if (f.identity && !f.ctx)
		f.ctx = server_context(f.identity, f.version);
	assert_int_equal(pthread_create(&f.thread, NULL, server_main, NULL), 0);
	f.running = true;
}

static void join_server(void)
{
	if (f.running)
		pthread_join(f.thread, NULL);
	f.running = false;
}

/* The bridge */

static void on_done(void *data, int error, const char *why)
{
	assert_ptr_equal(data, &f);
	if (error) {
		f.failed++;
		f.error = error;
		snprintf(f.why, sizeof(f.why), "%s", why);
	} else {
		f.opened++;
	}
	if (f.close_on_done)
		tls_bridge_close(TAKE_PTR(f.bridge), /* reset= */ true);
}

static void on_end(void *owner)
{
	f.ended++;
}

/* Small buffers, so that little suffices to fill them. The server inherits its listener's. */
static void set_buffers(int fd)
{
	const int size = 64 << 10;

	setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
}

static int setup(void **state)
{
	socklen_t len = sizeof(f.addr);

	f = (struct fixture){ .near = -1, .identity = &server };
	f.base = event_base_new();
	assert_int_equal(tls_home_init(&f.home, f.base), 0);
	f.home.on_end = on_end;
	f.listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	set_buffers(f.listener);
	f.addr = (struct sockaddr_in){ .sin_family = AF_INET,
				       .sin_addr = { htonl(INADDR_LOOPBACK) } };
	assert_int_equal(bind(f.listener, (struct sockaddr *)&f.addr, len), 0);
	assert_int_equal(listen(f.listener, 8), 0);
	assert_int_equal(getsockname(f.listener, (struct sockaddr *)&f.addr, &len), 0);
	return 0;
}

static void close_near(bool reset)
{
	tls_bridge_close(TAKE_PTR(f.bridge), reset);
	util_closep(&f.near);
	f.near = -1;
}

static int teardown(void **state)
{
	close_near(/* reset= */ true);
	tls_home_finish(&f.home);
	assert_int_equal(f.home.n, 0);
	f.stage = f.stage < 2 ? 2 : f.stage; /* a test that failed leaves the server waiting */
	join_server();
	tls_context_unref(f.context);
	SSL_CTX_free(f.ctx);
	close(f.listener);
	event_base_free(f.base);
	return 0;
}

static void use_context(const char *name, const char *file, bool verify)
{
	const struct tls_settings settings = { .name = name, .ca = file, .verify = verify };
	char why[TLS_WHY_LEN];

	assert_int_equal(tls_context_new(&settings, &f.context, why), 0);
}

static void start_bridge(void)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (!f.context)
		use_context("proxy.example.org", ca_file, true);
	set_buffers(fd);
	assert_int_equal(connect(fd, (struct sockaddr *)&f.addr, sizeof(f.addr)), 0);
	fcntl(fd, F_SETFL, O_NONBLOCK);
	assert_int_equal(tls_bridge_new(&f.home, fd, f.context, on_done, &f, &f.near, &f.bridge),
			 0);
}

/* Runs the event loop until the condition is true. */
#define run_until(condition)                                                                       \
	do {                                                                                       \
		uint64_t until = monotonic_coarse_ms() + WAIT_MS;                                  \
		while (!(condition)) {                                                             \
			event_base_loop(f.base, EVLOOP_NONBLOCK);                                  \
			if (monotonic_coarse_ms() > until)                                         \
				fail_msg("waited in vain for " #condition);                        \
			usleep(200);                                                               \
		}                                                                                  \
	} while (0)

/* Reads text from the near end while the loop runs. */
static void expect(const char *text)
{
	char got[256] = "";
	size_t n = 0;
	ssize_t r;

	while (n < strlen(text)) {
		run_until((r = recv(f.near, got + n, strlen(text) - n, 0)) >= 0 || errno != EAGAIN);
		assert_true(r > 0);
		n += (size_t)r;
	}
	assert_string_equal(got, text);
}

static void expect_end(void)
{
	char byte;
	ssize_t r;

	run_until((r = recv(f.near, &byte, 1, 0)) >= 0);
	assert_int_equal(r, 0);
}

static void say(const char *text)
{
	assert_int_equal(send(f.near, text, strlen(text), MSG_NOSIGNAL), strlen(text));
}

/* What servers do */

static void end_well(SSL *ssl, int fd)
{
	SSL_shutdown(ssl);
	close(fd);
}

/* Reads up to the client's close_notify, and answers after that. */
static void serve_half_close(struct fixture *fixture, SSL *ssl, int fd)
{
	char buf[64] = "";
	int n = 0, r;

	while ((r = SSL_read(ssl, buf + n, (int)sizeof(buf) - 1 - n)) > 0)
		n += r;
	assert_int_equal(SSL_get_error(ssl, r), SSL_ERROR_ZERO_RETURN);
	assert_string_equal(buf, "one two");
	SSL_write(ssl, "three", 5);
	SSL_shutdown(ssl);
	/* The upstream's socket ends with a FIN. */
	assert_int_equal(read(fd, buf, 1), 0);
	f.moved = 1;
	close(fd);
}

/*
 * Bytes and half-close both ways, with SNI. To see it fail: do not send close_notify in end_up();
 * do not pass the upstream's close_notify on in move_down().
 */
static void test_half_close(void **state)
{
	char buf[TLS_WHY_LEN];

	start_server(serve_half_close);
	start_bridge();
	say("one ");
	run_until(f.opened);
	assert_int_equal(f.stage, 1);
	say("two");
	assert_non_null(strstr(tls_bridge_describe(f.bridge, buf), "TLSv1."));
	shutdown(f.near, SHUT_WR);
	expect("three");
	expect_end();
	assert_int_equal(f.home.n, 1);
	close_near(/* reset= */ false);
	run_until(f.home.n == 0);
	join_server();
	assert_int_equal(f.moved, 1);
	assert_int_equal(f.failed, 0);
	assert_int_equal(f.ended, 1);
}

/* The numeric address of the certificate; no SNI then. */
static void test_address(void **state)
{
	use_context("127.0.0.1", ca_file, true);
	start_server(serve_half_close);
	start_bridge();
	say("one two");
	shutdown(f.near, SHUT_WR);
	expect("three");
	expect_end();
	assert_int_equal(f.stage, 0);
	close_near(/* reset= */ false);
	run_until(f.home.n == 0);
}

static void serve_nothing(struct fixture *fixture, SSL *ssl, int fd)
{
	char byte;

	SSL_read(ssl, &byte, 1);
	close(fd);
}

/* Reads 8 bytes, and waits. */
static void serve_password(struct fixture *fixture, SSL *ssl, int fd)
{
	char buf[8];

	if (SSL_read(ssl, buf, sizeof(buf)) == sizeof(buf))
		f.moved = 1;
	while (f.stage < 2)
		usleep(200);
	close(fd);
}

/* What was sent is not left in memory. To see it fail: no explicit_bzero() in move_up(). */
static void test_password(void **state)
{
	start_server(serve_password);
	start_bridge();
	say("password");
	run_until(f.moved);
	assert_null(memmem(f.home.scratch, 16 << 10, "word", 4));
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

static void serve_plain(struct fixture *fixture, SSL *ssl, int fd)
{
	char buf[64];

	if (write(fd, "SSH-2.0-no-TLS-here\r\n", 21) == 21)
		while (read(fd, buf, sizeof(buf)) > 0)
			;
	close(fd);
}

static void refused(const char *why)
{
	start_server(f.identity ? serve_nothing : serve_plain);
	start_bridge();
	run_until(f.failed);
	assert_int_equal(f.opened, 0);
	assert_int_equal(f.error, EPROTO);
	if (!strstr(f.why, why))
		fail_msg("\"%s\" is not in \"%s\"", why, f.why);
	close_near(/* reset= */ true);
	assert_int_equal(f.home.n, 0);
}

/* To see these fail: leave SSL_CTX_set_verify() out of set_verification(). */
static void test_wrong_authority(void **state)
{
	use_context("proxy.example.org", other_file, true);
	refused("unable to get local issuer certificate");
}

static void test_wrong_name(void **state)
{
	use_context("other.example.org", ca_file, true);
	refused("ostname mismatch");
}

static void test_wrong_address(void **state)
{
	use_context("127.0.0.2", ca_file, true);
	refused("IP address mismatch");
}

static void test_expired(void **state)
{
	f.identity = &expired;
	refused("certificate has expired");
}

/* The bridge is closed by the callback itself. */
static void test_closed_in_callback(void **state)
{
	f.close_on_done = true;
	f.identity = &expired;
	start_server(serve_nothing);
	start_bridge();
	run_until(f.failed);
	assert_int_equal(f.home.n, 0);
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
	refused("unable to get local issuer certificate");
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

static void test_not_tls(void **state)
{
	f.identity = NULL;
	refused("TLS: wrong version number");
}

static void serve_close(struct fixture *fixture, SSL *ssl, int fd)
{
	char buf[8];

	assert_true(read(fd, buf, sizeof(buf)) > 0);
	shutdown(fd, SHUT_WR);
	while (read(fd, buf, sizeof(buf)) > 0)
		;
	close(fd);
}

static void test_closed_in_handshake(void **state)
{
	f.identity = NULL;
	start_server(serve_close);
	start_bridge();
	run_until(f.failed);
	assert_int_equal(f.error, ECONNRESET);
}

/* Says something and ends without close_notify: with a FIN, or with a reset. */
static void serve_cut(struct fixture *fixture, SSL *ssl, int fd)
{
	SSL_write(ssl, "begun", 5);
	while (f.stage < 2)
		usleep(200);
	if (f.stage == 2)
		close(fd);
	else
		sock_close_reset(fd);
}

static void cut_off(int stage)
{
	char byte;

	start_server(serve_cut);
	start_bridge();
	expect("begun");
	f.stage = stage;
	run_until(f.failed);
	assert_int_equal(f.error, ECONNRESET);
	assert_int_equal(recv(f.near, &byte, 1, 0), -1);
	assert_int_equal(errno, EAGAIN);
}

/* To see it fail: take a FIN for close_notify in move_down(). */
static void test_truncated(void **state)
{
	cut_off(2);
	assert_non_null(strstr(f.why, "without close_notify"));
}

static void test_reset(void **state)
{
	cut_off(3);
}

/* Says something and ends well, and what comes after that is answered by a reset. */
static void serve_goodbye(struct fixture *fixture, SSL *ssl, int fd)
{
	SSL_write(ssl, "begun", 5);
	end_well(ssl, fd);
}

/* To see it fail: leave SSL_ERROR_ZERO_RETURN out of the first test of fail_tls(). */
static void test_reset_after_end(void **state)
{
	start_server(serve_goodbye);
	start_bridge();
	expect("begun");
	expect_end();
	join_server();
	say("late");
	run_until(f.failed || send(f.near, "x", 1, MSG_NOSIGNAL) < 0);
	run_until(f.failed);
	assert_int_equal(f.error, ECONNRESET);
	assert_null(strstr(f.why, "close_notify"));
}

#define TICKETS 60

/* Sends tickets, as many as it likes, and then data. */
static void serve_tickets(struct fixture *fixture, SSL *ssl, int fd)
{
	int i;

	SSL_write(ssl, "begun", 5);
	while (f.stage < 2)
		usleep(200);
	for (i = 0; i < TICKETS; i++) {
		assert_int_equal(SSL_new_session_ticket(ssl), 1);
		assert_int_equal(SSL_do_handshake(ssl), 1);
	}
	SSL_write(ssl, "done", 4);
	f.stage = 3;
	end_well(ssl, fd);
}

/* Other connections get a turn between. To see it fail: let read_some() of tls_bio.c count nothing.
 */
static void test_tickets(void **state)
{
	char byte;

	start_server(serve_tickets);
	start_bridge();
	expect("begun");
	f.stage = 2;
	while (f.stage < 3)
		usleep(200);
	event_base_loop(f.base, EVLOOP_ONCE);
	assert_int_equal(recv(f.near, &byte, 1, 0), -1);
	assert_int_equal(errno, EAGAIN);
	expect("done");
	expect_end();
}

/* Expects a reset. */
static void serve_reset(struct fixture *fixture, SSL *ssl, int fd)
{
	char byte;

	f.stage = 2;
	if (read(fd, &byte, 1) < 0 && errno == ECONNRESET)
		f.moved = 1;
	close(fd);
}

/* To see it fail: close with sock_close_well() in tls_bridge_close(). */
static void test_reset_upstream(void **state)
{
	start_server(serve_reset);
	start_bridge();
	run_until(f.opened && f.stage == 2);
	close_near(/* reset= */ true);
	assert_int_equal(f.home.n, 0);
	join_server();
	assert_int_equal(f.moved, 1);
}

#define MUCH (4 << 20)

/* Sends much, then reads as much, when it is told to. */
static void serve_much(struct fixture *fixture, SSL *ssl, int fd)
{
	static char buf[50000];
	size_t n, i;
	int r;

	for (n = 0; n < MUCH; n += (size_t)r) {
		size_t len = MUCH - n < sizeof(buf) ? MUCH - n : sizeof(buf);

		for (i = 0; i < len; i++)
			buf[i] = pattern(n + i);
		r = SSL_write(ssl, buf, (int)len);
		assert_true(r > 0);
		f.moved += (size_t)r;
	}
	while (f.stage < 2)
		usleep(200);
	for (n = 0; (r = SSL_read(ssl, buf, sizeof(buf))) > 0; n += (size_t)r) {
		for (i = 0; i < (size_t)r; i++)
			assert_int_equal(buf[i], pattern(n + i));
	}
	assert_int_equal(n, MUCH);
	assert_int_equal(SSL_get_error(ssl, r), SSL_ERROR_ZERO_RETURN);
	f.stage = 3;
	end_well(ssl, fd);
}

static uint64_t cpu_us(void)
{
	struct rusage usage;

	getrusage(RUSAGE_THREAD, &usage);
	return (uint64_t)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000000 +
	       (uint64_t)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
}

/* The loop sleeps: a bridge that waits for others takes no time, once it has done what it can. */
static void assert_idle(void)
{
	const struct timeval delay = { .tv_usec = 50000 };
	uint64_t before;
	int i;

	for (i = 0; i < 40; i++) {
		before = cpu_us();
		event_base_loopexit(f.base, &delay);
		event_base_loop(f.base, EVLOOP_NO_EXIT_ON_EMPTY);
		if (cpu_us() - before < 20000)
			return;
	}
	fail_msg("the loop does not sleep");
}

/* Runs the loop until nothing moves any more. */
static void settle(size_t (*moved)(void))
{
	size_t before;
	int i;

	do {
		before = moved();
		for (i = 0; i < 20; i++) {
			event_base_loop(f.base, EVLOOP_NONBLOCK);
			usleep(1000);
		}
	} while (moved() != before);
}

static size_t moved_down(void)
{
	return f.moved;
}

static void drain_near(void)
{
	static char buf[30000];
	size_t n = 0, i;
	ssize_t r;

	while (n < MUCH) {
		run_until((r = recv(f.near, buf, sizeof(buf), 0)) >= 0);
		for (i = 0; i < (size_t)r; i++)
			assert_int_equal(buf[i], pattern(n + i));
		n += (size_t)r;
	}
}

/* Writes to the near end until it is full. Returns false when everything is written. */
static bool fill_near(size_t *n)
{
	static char buf[30000];
	size_t i, len = MUCH - *n < sizeof(buf) ? MUCH - *n : sizeof(buf);
	ssize_t r;

	for (i = 0; i < len; i++)
		buf[i] = pattern(*n + i);
	r = len ? send(f.near, buf, len, MSG_NOSIGNAL) : 0;
	if (r > 0)
		*n += (size_t)r;
	return *n < MUCH;
}

/*
 * Back-pressure each way: while nobody reads, little is read, and the bridge sleeps. Everything
 * arrives, also what was in the pair when the near end was closed. To see it fail: in move_down(),
 * read although a piece is kept; in tls_bridge_close(), end the bridge.
 */
static void back_pressure(int version)
{
	size_t written = 0, i;

	f.version = version;
	start_server(serve_much);
	start_bridge();
	run_until(f.home.n_blocked == 1);
	settle(moved_down);
	assert_int_equal(f.opened, 1);
	assert_int_equal(f.home.n_blocked, 1);
	assert_true(f.moved < MUCH);
	assert_idle();
	drain_near();
	settle(moved_down);
	for (i = 0; i < 1000 && fill_near(&written); i++)
		event_base_loop(f.base, EVLOOP_NONBLOCK);
	assert_true(written < MUCH);
	assert_idle();
	f.stage = 2;
	run_until(!fill_near(&written));
	close_near(/* reset= */ false);
	run_until(f.home.n == 0);
	join_server();
	assert_int_equal(f.stage, 3);
	assert_int_equal(f.failed, 0);
}

static void test_back_pressure(void **state)
{
	back_pressure(0);
}

static void test_back_pressure_tls12(void **state)
{
	back_pressure(TLS1_2_VERSION);
}

/* The most that the bridge takes from the pair at once: a full record. */
#define PIECE (16 << 10)

/* Reads to the end. Returns the number of bytes, or 0 if one is wrong or the end is no end. */
static size_t read_pattern(SSL *ssl)
{
	static char buf[PIECE];
	size_t n = 0, i;
	bool good = true;
	int r;

	while ((r = SSL_read(ssl, buf, sizeof(buf))) > 0) {
		for (i = 0; i < (size_t)r; i++)
			good &= buf[i] == pattern(n + i);
		n += (size_t)r;
	}
	return good && SSL_get_error(ssl, r) == SSL_ERROR_ZERO_RETURN ? n : 0;
}

/* Reads when it is told to: stage 2; at stage 3 it ends its own direction before that. */
static void serve_late(struct fixture *fixture, SSL *ssl, int fd)
{
	const uint64_t until = monotonic_coarse_ms() + WAIT_MS;

	SSL_write(ssl, "go", 2);
	while (f.stage < 2)
		usleep(200);
	if (f.stage == 3)
		SSL_shutdown(ssl);
	while (f.stage == 3 && monotonic_coarse_ms() < until)
		usleep(200);
	f.moved = read_pattern(ssl);
	SSL_write(ssl, "late", 4);
	end_well(ssl, fd);
	f.stage = 4;
}

/* Sends n pieces to the near end, from the offset on. */
static void say_pieces(size_t offset, size_t n)
{
	static char buf[PIECE];
	size_t i;

	for (; n > 0; n--, offset += PIECE) {
		for (i = 0; i < PIECE; i++)
			buf[i] = pattern(offset + i);
		assert_int_equal(send(f.near, buf, PIECE, MSG_NOSIGNAL), PIECE);
	}
}

/* The upstream's socket, while another one is in its place that takes nothing. */
static struct {
	int fd;		  /* its number, which the bridge uses */
	int socket, peer; /* the socket itself; the far end of the other one */
} blocked;

static int find_write_event(const struct event_base *base, const struct event *event, void *data)
{
	const bool found = event_get_fd(event) == blocked.fd && event_get_events(event) & EV_WRITE;

	if (found)
		*(const struct event **)data = event;
	return found;
}

/* Returns the event by which the bridge waits until the socket takes more, or NULL. */
static struct event *write_event(void)
{
	const struct event *event = NULL;

	event_base_foreach_event(f.base, find_write_event, &event);
	return (struct event *)event;
}

static bool pair_is_empty(void)
{
	int queued;

	return ioctl(f.near, SIOCOUTQ, &queued) == 0 && queued == 0;
}

/* Opens a bridge, and lets its socket take nothing. */
static void start_blocked(void)
{
	static const char full[PIECE];
	int pair[2];

	start_server(serve_late);
	start_bridge();
	/* Nothing arrives any more that cannot be read meanwhile. */
	expect("go");
	assert_return_code(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), errno);
	while (send(pair[0], full, sizeof(full), MSG_NOSIGNAL) > 0)
		;
	blocked.fd = tls_bridge_fd(f.bridge);
	blocked.socket = dup(blocked.fd);
	blocked.peer = pair[1];
	assert_int_equal(dup2(pair[0], blocked.fd), blocked.fd);
	close(pair[0]);
}

/* The upstream's socket is back. Its events come, but that it can be written to must be told. */
static void unblock(void)
{
	assert_int_equal(dup2(blocked.socket, blocked.fd), blocked.fd);
	close(blocked.socket);
	close(blocked.peer);
}

static void tell_writable(void)
{
	assert_non_null(write_event());
	event_active(write_event(), EV_WRITE, 0);
}

/* Lets the bridge keep a piece, while the pair is empty. */
static void start_keeping(void)
{
	start_blocked();
	say_pieces(0, 1);
	run_until(pair_is_empty() && write_event());
}

/*
 * The client ends its direction when the socket is full: close_notify waits. To see it fail: let
 * end_up() take every result of SSL_shutdown() for success.
 */
static void test_full_client_ends(void **state)
{
	start_blocked();
	shutdown(f.near, SHUT_WR);
	run_until(write_event());
	unblock();
	tell_writable();
	f.stage = 2;
	expect("late");
	expect_end();
}

/*
 * The client ends its direction while the bridge keeps a piece. To see it fail: let move_up() free
 * the piece if the far end of the pair is at its end.
 */
static void test_kept_client_ends(void **state)
{
	start_keeping();
	shutdown(f.near, SHUT_WR);
	unblock();
	tell_writable();
	f.stage = 2;
	expect("late");
	expect_end();
	join_server();
	assert_int_equal(f.moved, PIECE);
}

/*
 * The upstream ends its direction while the bridge keeps a piece for it. To see it fail: let
 * move_down() free up.kept at close_notify; let move_up() do nothing if down.eof is set.
 */
static void test_kept_upstream_ends(void **state)
{
	struct pollfd arrival = { .events = POLLIN };

	start_keeping();
	f.stage = 3;
	arrival.fd = blocked.socket;
	assert_int_equal(poll(&arrival, 1, WAIT_MS), 1);
	unblock();
	expect_end();
	say_pieces(PIECE, 2);
	shutdown(f.near, SHUT_WR);
	f.stage = 2;
	run_until(f.stage == 4);
	assert_int_equal(f.moved, 3 * PIECE);
}

/* The near end is closed. To see it fail: let tls_bridge_close() free what is kept. */
static void test_kept_closed(void **state)
{
	start_keeping();
	close_near(/* reset= */ false);
	unblock();
	tell_writable();
	f.stage = 2;
	run_until(f.home.n == 0);
	join_server();
	assert_int_equal(f.moved, PIECE);
}

/*
 * The last byte and the end of the pair are the end of a turn: close_notify is for the next one.
 * To see it fail: let move() end a closed bridge at up.eof.
 */
static void test_closed_after_full_turn(void **state)
{
	start_server(serve_late);
	start_bridge();
	expect("go");
	say_pieces(0, 7);
	close_near(/* reset= */ false);
	f.stage = 2;
	run_until(f.home.n == 0);
	join_server();
	assert_int_equal(f.moved, 7 * PIECE);
}

/* Sends a piece for each that is asked for. At stage 2 it ends well, after the client's end. */
static void serve_pieces(struct fixture *fixture, SSL *ssl, int fd)
{
	static char buf[PIECE];
	size_t i;

	while (f.stage < 2) {
		if (f.moved == f.asked) {
			usleep(200);
			continue;
		}
		for (i = 0; i < PIECE; i++)
			buf[i] = pattern(f.moved + i);
		if (SSL_write(ssl, buf, PIECE) == PIECE)
			f.moved += PIECE;
	}
	SSL_shutdown(ssl);
	read_pattern(ssl);
	end_well(ssl, fd);
	f.stage = 3;
}

/*
 * Client and upstream both end their directions while the bridge keeps a piece that the client has
 * not read. To see it fail: let move_up() free down.kept at the end of the pair; let move_down()
 * free it if close_notify was sent.
 */
static void test_kept_down(void **state)
{
	static char buf[PIECE];
	size_t n, i;
	int queued;
	ssize_t r;

	start_server(serve_pieces);
	start_bridge();
	run_until(f.opened);
	while (f.home.n_blocked == 0) {
		f.asked += PIECE;
		run_until(f.home.n_blocked ||
			  (f.moved == f.asked &&
			   ioctl(tls_bridge_fd(f.bridge), SIOCINQ, &queued) == 0 && queued == 0));
	}
	shutdown(f.near, SHUT_WR);
	f.stage = 2;
	run_until(f.stage == 3);
	for (n = 0; n < f.moved; n += (size_t)r) {
		run_until((r = recv(f.near, buf, sizeof(buf), 0)) >= 0 || f.failed);
		assert_true(r > 0);
		for (i = 0; i < (size_t)r; i++)
			assert_int_equal(buf[i], pattern(n + i));
	}
	expect_end();
	assert_int_equal(f.failed, 0);
}

static void serve_blocked_reset(struct fixture *fixture, SSL *ssl, int fd)
{
	static const char buf[16384];

	fcntl(fd, F_SETFL, O_NONBLOCK);
	while (f.stage < 2) {
		int r = SSL_write(ssl, buf, sizeof(buf));

		if (r > 0)
			f.moved += (size_t)r;
		else
			usleep(200);
	}
	sock_close_reset(fd);
}

/* A reset is noticed although nothing is read. To see it fail: do not add tls_home::probe. */
static void test_blocked_reset(void **state)
{
	start_server(serve_blocked_reset);
	start_bridge();
	run_until(f.home.n_blocked == 1);
	settle(moved_down);
	assert_int_equal(f.home.n_blocked, 1);
	f.stage = 2;
	run_until(f.failed);
	assert_int_equal(f.error, ECONNRESET);
	assert_int_equal(f.home.n_blocked, 0);
}

static void serve_short(struct fixture *fixture, SSL *ssl, int fd)
{
	char buf[8];

	SSL_write(ssl, "hello", 5);
	SSL_read(ssl, buf, sizeof(buf));
	end_well(ssl, fd);
}

/* Returns true if the connection resumed the session of an earlier one. */
static bool talk(bool reset)
{
	char buf[TLS_WHY_LEN];
	bool resumed;

	start_server(serve_short);
	start_bridge();
	expect("hello");
	resumed = strstr(tls_bridge_describe(f.bridge, buf), "resumed");
	if (!reset) {
		shutdown(f.near, SHUT_WR);
		expect_end();
	}
	close_near(reset);
	run_until(f.home.n == 0);
	join_server();
	return resumed;
}

/*
 * Also after a connection that was reset. To see it fail: no SSL_set_session() in
 * tls_context_connect().
 */
static void test_resumption(void **state)
{
	assert_false(talk(/* reset= */ false));
	assert_true(talk(/* reset= */ true));
	assert_true(talk(/* reset= */ false));
}

static void test_resumption_tls12(void **state)
{
	f.version = TLS1_2_VERSION;
	assert_false(talk(/* reset= */ false));
	assert_true(talk(/* reset= */ true));
	assert_true(talk(/* reset= */ false));
}

static void serve_urgent(struct fixture *fixture, SSL *ssl, int fd)
{
	char buf[8] = "";
	int n = 0, r;

	while (n < 5 && (r = SSL_read(ssl, buf + n, (int)sizeof(buf) - 1 - n)) > 0)
		n += r;
	assert_string_equal(buf, "ab!cd");
	SSL_write(ssl, "done", 4);
	end_well(ssl, fd);
}

/* An urgent byte arrives in its place, as an ordinary one. To see it fail: no SO_OOBINLINE. */
static void test_urgent(void **state)
{
	start_server(serve_urgent);
	start_bridge();
	run_until(f.opened);
	say("ab");
	if (send(f.near, "!", 1, MSG_OOB) < 0)
		say("!"); /* a kernel without CONFIG_AF_UNIX_OOB */
	say("cd");
	expect("done");
	expect_end();
}

static void serve_unread(struct fixture *fixture, SSL *ssl, int fd)
{
	while (f.stage < 2)
		usleep(200);
	close(fd);
}

/* tls_home_stop() ends what would take long. */
static void test_stop(void **state)
{
	size_t written = 0, i;

	start_server(serve_unread);
	start_bridge();
	run_until(f.opened);
	for (i = 0; i < 1000 && fill_near(&written); i++)
		event_base_loop(f.base, EVLOOP_NONBLOCK);
	close_near(/* reset= */ false);
	assert_idle();
	assert_int_equal(f.home.n, 1);
	tls_home_stop(&f.home);
	assert_int_equal(f.home.n, 0);
	f.stage = 2;
}

#define tls_test(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		tls_test(test_half_close),
		tls_test(test_address),
		tls_test(test_wrong_authority),
		tls_test(test_wrong_name),
		tls_test(test_wrong_address),
		tls_test(test_expired),
		tls_test(test_closed_in_callback),
		tls_test(test_not_verified),
		tls_test(test_bad_settings),
		tls_test(test_bad_files),
		tls_test(test_system_file),
		tls_test(test_system_directory),
		tls_test(test_system_without),
		tls_test(test_bundle),
		tls_test(test_not_tls),
		tls_test(test_closed_in_handshake),
		tls_test(test_truncated),
		tls_test(test_reset),
		tls_test(test_reset_upstream),
		tls_test(test_reset_after_end),
		tls_test(test_tickets),
		tls_test(test_back_pressure),
		tls_test(test_back_pressure_tls12),
		tls_test(test_full_client_ends),
		tls_test(test_kept_client_ends),
		tls_test(test_kept_upstream_ends),
		tls_test(test_kept_closed),
		tls_test(test_closed_after_full_turn),
		tls_test(test_kept_down),
		tls_test(test_blocked_reset),
		tls_test(test_resumption),
		tls_test(test_resumption_tls12),
		tls_test(test_urgent),
		tls_test(test_stop),
		tls_test(test_password),
		tls_test(test_stale),
	};

	return cmocka_run_group_tests(tests, make_certificates, free_certificates);
}
