/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* cmocka.h, and the headers that must be included before it. */
#ifndef TPROXY_UNIT_H
#define TPROXY_UNIT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#endif
