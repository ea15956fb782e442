// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* See notify.h. */
#include "notify.h"

#include <string.h>
#include <sys/socket.h>

#include "config.h"
#if HAVE_LIBSYSTEMD
#include <systemd/sd-daemon.h>
#endif

void notify(int supervisor_fd, const char *state)
{
	if (supervisor_fd >= 0) {
		send(supervisor_fd, state, strlen(state), MSG_NOSIGNAL);
		return;
	}
#if HAVE_LIBSYSTEMD
	sd_notify(0, state);
#endif
}
