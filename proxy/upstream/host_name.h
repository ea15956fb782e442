/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Host names: their form, and the one spelling that the relay compares, logs and sends. */
#ifndef TPROXY_HOST_NAME_H
#define TPROXY_HOST_NAME_H

#include <stdbool.h>
#include <stddef.h>

#define HOST_NAME_MAX_LEN 253
#define HOST_NAME_LEN	  256 /* of a buffer for a name */

/*
 * Copies the len bytes of text as a host name: in lower case, without a dot at the end. Returns
 * false, and leaves the buffer unchanged, if they are no name. A name has labels of 1 to 63
 * letters, digits, '-' and '_', and 253 bytes at most. A name whose last label is a number is
 * refused: programs take it for an IPv4 address.
 */
bool host_name_copy(char ret_name[HOST_NAME_LEN], const void *text, size_t len);
/* The same for the authority of a URL, a host that a colon and a port may follow. */
bool host_name_copy_authority(char ret_name[HOST_NAME_LEN], const void *text, size_t len);

#endif
