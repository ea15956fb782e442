// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* See chaos.h: the command line. */
#include "chaos.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

int main(int argc, char **argv)
{
	signal(SIGPIPE, SIG_IGN);
	if (argc >= 3 && strcmp(argv[1], "serve") == 0)
		return run_server(argv + 2, argc - 2);
	if (argc >= 9 && strcmp(argv[1], "dial") == 0)
		return run_clients(argv + 2, argc - 2);
	fprintf(stderr, "usage: see the top of chaos.h\n");
	return 2;
}
