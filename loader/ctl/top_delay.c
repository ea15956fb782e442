// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* See top_delay.h. */
#include "top_delay.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "parse.h"
#include "util.h"

int top_parse_delay(const char *text, uint64_t *ret_ms)
{
	const char *point = strchr(text, '.');
	char whole[16];
	uint32_t seconds;
	uint64_t ms = 0;
	int digits, r;

	if (!point) {
		r = parse_duration_ms(text, &ms);
	} else {
		snprintf(whole, sizeof(whole), "%.*s", (int)(point - text), text);
		r = parse_u32(whole, 0, TOP_DELAY_MAX_MS, &seconds);
		for (digits = 1; r == 0 && isdigit((unsigned char)point[digits]); digits++) {
			static const unsigned int units[] = { 0, 100, 10, 1 };

			if (digits < (int)ARRAY_SIZE(units))
				ms += units[digits] * (unsigned int)(point[digits] - '0');
		}
		if (r == 0 && (digits == 1 || point[digits]))
			r = -EINVAL;
		if (r == 0)
			ms += (uint64_t)seconds * 1000;
	}
	if (r == 0 && (ms < TOP_DELAY_MIN_MS || ms > TOP_DELAY_MAX_MS))
		r = -ERANGE;
	if (r == 0)
		*ret_ms = ms;
	return r;
}
