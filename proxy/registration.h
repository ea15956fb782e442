/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The relay's side of the pinned maps: the marks on its sockets and its entry in map_config. With
 * origdst.c the only place that knows of BPF. All functions log what is wrong, in one line, and
 * return 0 or -errno, where nothing else is said.
 */
#ifndef TPROXY_REGISTRATION_H
#define TPROXY_REGISTRATION_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>

struct registration {
	const char *pin_dir; /* not owned */
	int config_fd;	     /* map_config */
	int marks_fd;	     /* map_marks */
	uint32_t config_id;
	uint64_t netns_cookie;
	uint32_t pid; /* as the kernel half sees it, whatever PID namespace we are in */
	uint32_t uid; /* likewise */
	struct sockaddr_in listen;
};

#define REGISTRATION_NULL                                                                          \
	{                                                                                          \
		.config_fd = -1, .marks_fd = -1                                                    \
	}

/* Opens the pins and checks their ABI version. */
int registration_open(struct registration *reg, const char *pin_dir);
void registration_close(struct registration *reg);

/*
 * Marks a socket that is bound and does not listen yet as a relay's listener. Then, after
 * listen(), registration_verify_listener() finds out whether all hooks are where this process is:
 * -ENOTCONN, logged, if not.
 */
int registration_mark_listener(const struct registration *reg, int fd);
int registration_verify_listener(const struct registration *reg, int fd);

/* Marks a socket that we dial with, before connect(). Thread-safe. Does not log. */
int registration_mark_upstream(int marks_fd, int fd);

/*
 * Publishes the address of a verified listener for our network namespace. From here on, new
 * connections come.
 */
int registration_put(struct registration *reg, int listen_fd);
/* Takes the entry back if it is still ours. */
void registration_remove(struct registration *reg);

/*
 * Compares what is pinned with what we registered in, and repairs what can be repaired: an entry
 * that went, or one of a relay that no longer serves.
 */
enum registration_state {
	REGISTRATION_GOOD,
	REGISTRATION_OTHER,    /* another relay, which serves, has registered since */
	REGISTRATION_GONE,     /* nothing is pinned, or not ours to open */
	REGISTRATION_REPLACED, /* other maps are pinned: close, open, mark new listeners, put */
};
enum registration_state registration_check(struct registration *reg);

#endif
