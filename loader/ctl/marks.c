// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * tproxyctl register. See marks.h. tproxy-relay marks its sockets before listen(), where sockops
 * sees them and adds ATTACHED. A foreign proxy listens already. So its listener is marked LISTENER
 * only, and asked for TPROXY_SO_WHOAMI. The programs that answer are those of the cgroup in which
 * the socket was created. Wherever getsockopt is attached, sockops runs too (objects.c). So after
 * an answer ATTACHED is added, which connect requires.
 */
#include "marks.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "host/address.h"
#include "host/listeners.h"
#include "log.h"
#include "whoami.h"

/*
 * Checks that tproxy's getsockopt program is attached where this marked socket was created. Returns
 * 0 or -errno, logged.
 */
static int check_whoami(const char *pin_dir, const struct listening_socket *l)
{
	struct tproxy_whoami who = {};
	char text[ADDRESS_ENDPOINT_LEN];

	if (whoami_query(l->fd, &who) < 0 || !(who.mark_flags & TPROXY_MARK_LISTENER)) {
		log_err("the programs of '%s' are not attached where the listener at %s was created; start the proxy in the relay cgroup (moving it there later has no effect)",
			pin_dir, address_format_endpoint(&l->ep, text));
		return -ENOTCONN;
	}
	if (who.pid != (__u32)getpid() || who.uid != (__u32)getuid()) {
		log_err("not in the initial PID and user namespaces; run this outside of the container");
		return -EXDEV;
	}
	return 0;
}

int marks_set(int marks_fd, const char *pin_dir, const struct listening_socket *l,
	      __u32 *ret_before)
{
	struct tproxy_mark mark = {};
	int r;

	if (bpf_map_lookup_elem(marks_fd, &l->fd, &mark) < 0)
		mark.flags = 0;
	*ret_before = mark.flags;
	if ((mark.flags & TPROXY_MARK_READY) == TPROXY_MARK_READY)
		return check_whoami(pin_dir, l);
	mark = (struct tproxy_mark){ .flags = TPROXY_MARK_LISTENER };
	r = bpf_map_update_elem(marks_fd, &l->fd, &mark, BPF_ANY);
	if (r == 0) {
		r = check_whoami(pin_dir, l);
		if (r < 0)
			return r;
		mark.flags = TPROXY_MARK_READY;
		r = bpf_map_update_elem(marks_fd, &l->fd, &mark, BPF_ANY);
	}
	if (r < 0)
		log_err("cannot mark a socket of process %d: %s", l->pid, strerror(-r));
	return r;
}

void marks_restore(int marks_fd, const struct listening_socket *l, __u32 before)
{
	const struct tproxy_mark mark = { .flags = before };

	if (before)
		bpf_map_update_elem(marks_fd, &l->fd, &mark, BPF_ANY);
	else
		bpf_map_delete_elem(marks_fd, &l->fd);
}
