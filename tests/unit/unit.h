/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What cmocka wants included before itself. */
#ifndef TPROXY_UNIT_H
#define TPROXY_UNIT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#endif
