// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Tests proxy/session/spin.c: the credit that short and long waits give or cost, and the rule
 * that one worker spins at a time.
 */
#include "session/spin.h"

#include <event2/event.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "unit.h"

/* A wait below this is short. Far above any real one, because the machine may be busy. */
#define MOST_US 100000
#define LONG_MS 400
#define ENOUGH	8 /* as in spin.c */
#define CREDIT	16
#define LOST	2

struct fixture {
	struct spin_owner owner;
	struct spin spin;
	struct event_base *base;
	struct event *event;
	int fd;
	int left; /* events still to follow at once */
};

static void on_event(evutil_socket_t fd, short what, void *arg)
{
	struct fixture *f = arg;
	eventfd_t value;

	eventfd_read(fd, &value);
	spin_note_event(&f->spin);
	if (f->left-- > 0)
		eventfd_write(fd, 1);
	else
		event_base_loopbreak(f->base);
}

static void on_late(evutil_socket_t fd, short what, void *arg)
{
	struct fixture *f = arg;

	eventfd_write(f->fd, 1);
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	f->spin = (struct spin){ .owner = &f->owner, .most_us = MOST_US };
	f->base = event_base_new();
	f->fd = eventfd(0, EFD_NONBLOCK);
	f->event = event_new(f->base, f->fd, EV_READ | EV_PERSIST, on_event, f);
	event_add(f->event, NULL);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	event_free(f->event);
	event_base_free(f->base);
	close(f->fd);
	free(f);
	return 0;
}

/* Serves one event and then count more, each as soon as the one before has been handled. */
static void serve(struct fixture *f, int count)
{
	f->left = count;
	eventfd_write(f->fd, 1);
	assert_int_equal(spin_loop(&f->spin, f->base), 0);
}

static void serve_late(struct fixture *f, int count)
{
	const struct timeval delay = { .tv_usec = LONG_MS * 1000 };
	struct event *late = evtimer_new(f->base, on_late, f);

	event_add(late, &delay);
	f->left = count;
	assert_int_equal(spin_loop(&f->spin, f->base), 0);
	event_free(late);
}

static double cpu_seconds(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

/* The last event ends the loop before its wait is counted, so n + 1 events count n waits. */
static void test_short_waits_count(void **state)
{
	struct fixture *f = *state;

	serve(f, 5);
	assert_int_equal(f->spin.credit, 5);
	serve(f, 100);
	assert_int_equal(f->spin.credit, CREDIT);
	assert_ptr_equal(f->owner.current, &f->spin);
}

static void test_long_waits_cost(void **state)
{
	struct fixture *f = *state;

	serve(f, 100);
	serve_late(f, 1);
	assert_int_equal(f->spin.credit, CREDIT - LOST);
	f->spin.credit = 1;
	serve_late(f, 1);
	assert_int_equal(f->spin.credit, 0);
}

/* The worker spins for most_us at most and then sleeps. To see it fail: spin without an end. */
static void test_spins_no_longer_than_it_may(void **state)
{
	struct fixture *f = *state;
	double before = cpu_seconds(), used;

	f->spin.credit = CREDIT;
	serve_late(f, 0);
	used = cpu_seconds() - before;
	assert_true(used < 0.75 * LONG_MS / 1000);
	assert_true(used > 0.0001);
}

static void test_sleeps_without_credit(void **state)
{
	struct fixture *f = *state;
	double before = cpu_seconds();

	f->spin.credit = ENOUGH - 1;
	serve_late(f, 0);
	assert_true(cpu_seconds() - before < 0.02);
}

static void *take_turn(void *arg)
{
	static const struct spin other;
	struct fixture *f = arg;

	nanosleep(&(struct timespec){ .tv_nsec = 5000000 }, NULL);
	f->owner.current = &other;
	return NULL;
}

/*
 * The worker stops spinning when another worker has had the last event. To see it fail: ignore
 * spin_owner in may_spin().
 */
static void test_one_spins_at_a_time(void **state)
{
	struct fixture *f = *state;
	double before = cpu_seconds();
	pthread_t thread;

	f->spin.credit = CREDIT;
	assert_int_equal(pthread_create(&thread, NULL, take_turn, f), 0);
	serve_late(f, 0);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_true(cpu_seconds() - before < 0.05);
}

static void test_off(void **state)
{
	struct fixture *f = *state;

	f->spin.most_us = 0;
	serve(f, 100);
	assert_int_equal(f->spin.credit, 0);
	assert_null(f->owner.current);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_short_waits_count, setup, teardown),
		cmocka_unit_test_setup_teardown(test_long_waits_cost, setup, teardown),
		cmocka_unit_test_setup_teardown(test_spins_no_longer_than_it_may, setup, teardown),
		cmocka_unit_test_setup_teardown(test_sleeps_without_credit, setup, teardown),
		cmocka_unit_test_setup_teardown(test_one_spins_at_a_time, setup, teardown),
		cmocka_unit_test_setup_teardown(test_off, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
