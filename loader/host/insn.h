/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* BPF instructions, for the few programs that are written by hand. */
#ifndef TPROXY_HOST_INSN_H
#define TPROXY_HOST_INSN_H

#include <linux/bpf.h>

#define INSN(c, d, s, o, i)                                                                        \
	((struct bpf_insn){ .code = (c), .dst_reg = (d), .src_reg = (s), .off = (o), .imm = (i) })

#define MOV(d, s)	 INSN(BPF_ALU64 | BPF_MOV | BPF_X, d, s, 0, 0)
#define SET(d, i)	 INSN(BPF_ALU64 | BPF_MOV | BPF_K, d, 0, 0, i)
#define ADD(d, i)	 INSN(BPF_ALU64 | BPF_ADD | BPF_K, d, 0, 0, i)
#define LOAD32(d, s, o)	 INSN(BPF_LDX | BPF_MEM | BPF_W, d, s, o, 0)
#define LOAD64(d, s, o)	 INSN(BPF_LDX | BPF_MEM | BPF_DW, d, s, o, 0)
#define STORE64(d, o, i) INSN(BPF_ST | BPF_MEM | BPF_DW, d, 0, o, i)
/* Jumps skip n instructions. */
#define JUMP_0(d, n)	 INSN(BPF_JMP | BPF_JEQ | BPF_K, d, 0, n, 0)
#define JUMP_NOT_0(d, n) INSN(BPF_JMP | BPF_JNE | BPF_K, d, 0, n, 0)
#define CALL(id)	 INSN(BPF_JMP | BPF_CALL, 0, 0, 0, id)
#define EXIT		 INSN(BPF_JMP | BPF_EXIT, 0, 0, 0, 0)

#endif
