// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* What /proc and kill(2) show of a process: this one, and a child until it has been waited for. */
#include "host/process.h"

#include <errno.h>
#include <pthread.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "unit.h"

/* Its name contains ") ", as behind a name in /proc/PID/stat. To see it fail: search the first
 * ')'. */
static void this_process(void **state)
{
	uid_t uid = 4711;
	gid_t gid = 4711;

	assert_int_equal(prctl(PR_SET_NAME, "a) R 4711 (b"), 0);
	assert_true(process_exists(getpid()));
	assert_int_equal(process_state(getpid()), 'R');
	assert_int_equal(process_parent(getpid()), getppid());
	assert_int_equal(process_uid(getpid(), &uid), 0);
	assert_int_equal(uid, getuid());
	assert_int_equal(process_gid(getpid(), &gid), 0);
	assert_int_equal(gid, getgid());
}

static void *of_a_thread(void *data)
{
	pid_t *pid = data;

	assert_int_not_equal(gettid(), getpid());
	assert_int_equal(process_of_thread(gettid(), pid), 0);
	return NULL;
}

/* To see it fail: read the line "Pid:". */
static void process_of_a_thread(void **state)
{
	pthread_t thread;
	pid_t pid = 0;

	assert_int_equal(process_of_thread(getpid(), &pid), 0);
	assert_int_equal(pid, getpid());
	pid = 0;
	assert_int_equal(pthread_create(&thread, NULL, of_a_thread, &pid), 0);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(pid, getpid());
	assert_int_equal(process_of_thread(4194304 + 1, &pid), -ESRCH);
}

/* To see it fail: return kill(pid, 0) == 0 && state is not 'Z'. */
static void child_until_it_is_waited_for(void **state)
{
	uid_t uid = 4711;
	siginfo_t info;
	pid_t pid;

	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0)
		_exit(0);
	assert_int_equal(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT), 0);
	assert_true(process_exists(pid));
	assert_int_equal(process_state(pid), 'Z');
	assert_int_equal(process_parent(pid), getpid());
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	assert_false(process_exists(pid));
	assert_int_equal(process_state(pid), '?');
	assert_int_equal(process_parent(pid), 0);
	assert_int_equal(process_uid(pid, &uid), -ESRCH);
	assert_int_equal(uid, 4711);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(this_process),
		cmocka_unit_test(process_of_a_thread),
		cmocka_unit_test(child_until_it_is_waited_for),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
