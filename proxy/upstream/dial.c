// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* See dial.h. */
#include "dial.h"

#include <errno.h>
#include <stddef.h>
#include <unistd.h>

void dial_start(const struct dial_request *request, struct dial **ret_dial)
{
	const struct dial_result result = { .fd = -1, .error = ENOSYS };

	if (request->fd >= 0)
		close(request->fd);
	*ret_dial = NULL;
	request->done(request->data, &result);
}

void dial_free(struct dial *dial)
{
}

void dial_expire(struct dial *dial)
{
}

bool dial_has_work(const struct dial *dial)
{
	return false;
}
