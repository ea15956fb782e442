/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The relay's side of the pinned maps: the marks on its sockets and its entry in map_config. With
 * origdst.c the only place that knows of BPF. All functions log what is wrong, in one line, and
 * return 0 or -errno, where nothing else is said.
 */
#ifndef TPROXY_REGISTRATION_H
#define TPROXY_REGISTRATION_H

#include <stdbool.h>
#include <stdint.h>

#include "parse.h"
#include "tproxy_abi.h"

struct registration {
	const char *pin_dir;	      /* not owned */
	int config_fd;		      /* map_config */
	int marks_fd;		      /* map_marks */
	int failed_fd;		      /* map_failed */
	uint32_t config_id, marks_id; /* of the maps, see bpffs_map_id() */
	uint64_t netns_cookie;
	uint32_t pid; /* as the kernel half sees it, whatever PID namespace we are in */
	uint32_t uid; /* likewise */
	uint64_t registered_ns;
	struct tproxy_listen listen[_TPROXY_FAMILY_MAX]; /* as they were added */
	int error;		       /* of the last attempt to renew the entry */
	bool offer6;		       /* the IPv6 listeners are offered: there are routes */
	bool away[_TPROXY_FAMILY_MAX]; /* clients do not reach their address, so they are not */
	/* Two sockets of our own in the listeners' cgroup: by one we ask the kernel half, the other
	 * listens for a moment to see that sockops sees it. */
	int ask_fd, probe_fd;
	bool probe_bound;
	uint64_t sweep_due_ns; /* of the next pass, see sweep() */
};

#define REGISTRATION_NULL                                                                          \
	{                                                                                          \
		.config_fd = -1, .marks_fd = -1, .failed_fd = -1, .ask_fd = -1, .probe_fd = -1     \
	}

/* Opens the pins and checks their ABI version. */
int registration_open(struct registration *reg, const char *pin_dir);
void registration_close(struct registration *reg);

/*
 * Marks a socket that is bound and does not listen yet as a relay's listener. Then, after
 * listen(), registration_add_listener() finds out whether all hooks are where this process is
 * (-ENOTCONN, logged, if not) and notes its address and port. Those of one family have one address,
 * and are TPROXY_PORTS_MAX at most.
 */
int registration_mark_listener(const struct registration *reg, int fd);
/* The listener's family, enum tproxy_family; or -errno. */
int registration_add_listener(struct registration *reg, int fd);
/* Is it a listener that was marked for what is pinned now? Does not log. */
bool registration_knows_listener(const struct registration *reg, int fd);

/* What a worker needs of a registration, with descriptors of its own. */
struct registration_handle {
	int marks_fd;
	int failed_fd;
	uint64_t netns_cookie;
	uint64_t error_memory_ms;
};

#define REGISTRATION_HANDLE_NULL                                                                   \
	{                                                                                          \
		.marks_fd = -1, .failed_fd = -1                                                    \
	}

int registration_handle_dup(const struct registration *reg, uint64_t error_memory_ms,
			    struct registration_handle *ret_handle);
void registration_handle_close(struct registration_handle *handle);

/*
 * Is whatever we dial with exempt from redirection, because we are in the relays' cgroup now? Not
 * to be able to ask, of one of our listeners, is no. Does not log.
 */
bool registration_is_exempt(int listen_fd);

/* These two do not log. Marks a socket that we dial with, before connect(). */
int registration_mark_upstream(const struct registration_handle *handle, int fd);
/*
 * The destination could not be reached: for a short time connect() to it fails with that error,
 * if it is one that connect(2) gives for what is the matter with a destination.
 */
void registration_note_error(const struct registration_handle *handle,
			     const union sockaddr_any *dst, int error);

/*
 * Publishes the listeners that were added for our network namespace. From here on, new connections
 * come.
 */
int registration_put(struct registration *reg);
/* Has another relay taken our place, or is there none any more? Changes nothing. */
bool registration_is_replaced(const struct registration *reg);
/* Takes the entry back if it is still ours. */
void registration_remove(struct registration *reg);

/*
 * To be called every second or so: says that we are alive. Compares what is pinned with what we
 * registered in, and repairs what can be repaired: an entry that went, or one of a relay that no
 * longer serves.
 */
enum registration_state {
	REGISTRATION_GOOD,
	REGISTRATION_OTHER,    /* another relay, which serves, has registered since */
	REGISTRATION_GONE,     /* nothing is pinned */
	REGISTRATION_DENIED,   /* we may not open the pins, or not look whether there are any */
	REGISTRATION_UNHEARD,  /* the programs are not where we are: the entry is taken back */
	REGISTRATION_FAILED,   /* could not be renewed, errno in registration::error */
	REGISTRATION_REPLACED, /* other maps are pinned: close, open, mark new listeners, put */
};
enum registration_state registration_check(struct registration *reg);

#endif
