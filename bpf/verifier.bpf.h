/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What is there for the verifier only. It walks through a program once for each value of a number
 * that it knows, wherever a later branch or memory access depends on the number. So a flag with two
 * values can double the time of a load. Pure: no map, no helper call, no context.
 */
#ifndef TPROXY_VERIFIER_BPF_H
#define TPROXY_VERIFIER_BPF_H

#include <linux/types.h>

#ifndef __always_inline
#define __always_inline inline __attribute__((always_inline))
#endif

/*
 * Returns the number, as one that the verifier does not know any more, so that the paths on which
 * it has different values become one. unknown: any number that the verifier does not know, such as
 * one from a map or a packet.
 */
static __always_inline __u64 verifier_forget(__u64 number, __u64 unknown)
{
	number += unknown;
	__asm__ volatile("" : "+r"(number)); /* the compiler would leave both steps out */
	return number - unknown;
}

/* Returns 1 if a number is not 0, otherwise 0, without the branch that a comparison would be. */
static __always_inline __u64 verifier_bool(__u64 number)
{
	number |= -number;
	__asm__ volatile("" : "+r"(number)); /* clang would make a branch of the sign */
	return number >> 63;
}

#endif
