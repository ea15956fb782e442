// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * tproxyctl doctor: what the BPF programs need from the kernel. Each feature is probed on its own,
 * and nothing is attached.
 *
 * For a helper, a program that calls it correctly is loaded and closed at once. For a link, one is
 * requested at a cgroup that does not exist: the error is EBADF if, and only if, such links exist.
 * bpf_loop() and bpf_for_each_map_elem() are not probed, because a program that calls them needs
 * BTF. They are older than bpf_set_retval(), which is probed.
 *
 * libbpf_probe_bpf_helper() is not used. It calls helpers without arguments, and infers from the
 * verifier's messages whether the helper was refused. Those messages have changed since.
 */
#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <errno.h>
#include <linux/bpf.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "doctor.h"
#include "host/insn.h"
#include "objects.h"

#define PROBE_NAME "tproxy_probe"
#define FIX_KERNEL                                                                                 \
	"boot a newer kernel, with CONFIG_BPF_SYSCALL=y and CONFIG_CGROUP_BPF=y, then run this again"

/* How a helper is called. */
enum args {
	ARGS_CTX,     /* the context, or nothing */
	ARGS_CTX_0,   /* the context and a number */
	ARGS_NUMBER,  /* a number */
	ARGS_BUFFER,  /* a buffer, its size, and an address in the kernel or nothing */
	ARGS_LOOKUP,  /* a tuple; what it returns is given to bpf_sk_release() */
	ARGS_STORAGE, /* a socket storage and the context's socket */
	ARGS_SOCKET,  /* the context's socket */
	ARGS_OPTION,  /* the context, a level, a name, a buffer and its size */
};

enum {
	IN_CONNECT = 1 << 0,
	IN_GETPEER = 1 << 1,
	IN_SOCKOPS = 1 << 2,
	IN_SOCKOPT = 1 << 3,
	IN_RELEASE = 1 << 4,
	IN_BIND = 1 << 5,
	IN_TC = 1 << 6,
	IN_SENDMSG = 1 << 7,
	IN_EGRESS = 1 << 8,
	IN_INGRESS = 1 << 9,
	IN_XDP = 1 << 10,
};

static const struct probe {
	enum hook_id hook;
	int sk_offset; /* offset of the socket in the context; -1: the context is the socket */
	unsigned int bit;
} probes[] = {
	{ HOOK_CONNECT4, offsetof(struct bpf_sock_addr, sk), IN_CONNECT },
	{ HOOK_CONNECT6, offsetof(struct bpf_sock_addr, sk), IN_CONNECT },
	{ HOOK_GETPEER4, offsetof(struct bpf_sock_addr, sk), IN_GETPEER },
	{ HOOK_GETPEER6, offsetof(struct bpf_sock_addr, sk), IN_GETPEER },
	{ HOOK_SOCKOPS, offsetof(struct bpf_sock_ops, sk), IN_SOCKOPS },
	{ HOOK_SOCKOPT, offsetof(struct bpf_sockopt, sk), IN_SOCKOPT },
	{ HOOK_RELEASE, -1, IN_RELEASE },
	{ HOOK_SWEEP, offsetof(struct bpf_sock_addr, sk), IN_BIND },
	{ HOOK_SWEEP_NOW, offsetof(struct __sk_buff, sk), IN_TC },
	{ HOOK_SENDMSG4, offsetof(struct bpf_sock_addr, sk), IN_SENDMSG },
	{ HOOK_SENDMSG6, offsetof(struct bpf_sock_addr, sk), IN_SENDMSG },
	{ HOOK_EGRESS, offsetof(struct __sk_buff, sk), IN_EGRESS },
	{ HOOK_BLOCK_IN, offsetof(struct __sk_buff, sk), IN_INGRESS },
	{ HOOK_XDP, -1, IN_XDP },
};

static const struct helper {
	const char *name;
	int id;
	enum args args;
	unsigned int used; /* IN_*: the programs that call it */
} helpers[] = {
	{ "bpf_sk_storage_get", BPF_FUNC_sk_storage_get, ARGS_STORAGE,
	  IN_CONNECT | IN_GETPEER | IN_SOCKOPS | IN_SOCKOPT | IN_RELEASE | IN_BIND | IN_TC |
		  IN_SENDMSG | IN_EGRESS },
	{ "bpf_get_socket_cookie", BPF_FUNC_get_socket_cookie, ARGS_CTX,
	  IN_CONNECT | IN_SOCKOPS | IN_RELEASE },
	{ "bpf_get_netns_cookie", BPF_FUNC_get_netns_cookie, ARGS_CTX,
	  IN_CONNECT | IN_SOCKOPS | IN_BIND },
	{ "bpf_sk_lookup_tcp", BPF_FUNC_sk_lookup_tcp, ARGS_LOOKUP, IN_CONNECT | IN_BIND | IN_TC },
	{ "bpf_skc_lookup_tcp", BPF_FUNC_skc_lookup_tcp, ARGS_LOOKUP, IN_CONNECT },
	{ "bpf_skc_to_tcp_sock", BPF_FUNC_skc_to_tcp_sock, ARGS_SOCKET, IN_CONNECT | IN_SOCKOPS },
	{ "bpf_getsockopt", BPF_FUNC_getsockopt, ARGS_OPTION, IN_CONNECT },
	{ "bpf_setsockopt", BPF_FUNC_setsockopt, ARGS_OPTION, IN_SOCKOPS },
	{ "bpf_set_retval", BPF_FUNC_set_retval, ARGS_NUMBER,
	  IN_CONNECT | IN_SOCKOPT | IN_BIND | IN_SENDMSG },
	{ "bpf_get_current_cgroup_id", BPF_FUNC_get_current_cgroup_id, ARGS_CTX, IN_CONNECT },
	{ "bpf_get_current_ancestor_cgroup_id", BPF_FUNC_get_current_ancestor_cgroup_id,
	  ARGS_NUMBER, IN_CONNECT | IN_SOCKOPT | IN_SENDMSG },
	{ "bpf_get_current_pid_tgid", BPF_FUNC_get_current_pid_tgid, ARGS_CTX,
	  IN_CONNECT | IN_SOCKOPT },
	{ "bpf_get_current_uid_gid", BPF_FUNC_get_current_uid_gid, ARGS_CTX,
	  IN_CONNECT | IN_SOCKOPT | IN_SENDMSG },
	{ "bpf_get_current_comm", BPF_FUNC_get_current_comm, ARGS_BUFFER, IN_CONNECT },
	{ "bpf_get_current_task", BPF_FUNC_get_current_task, ARGS_CTX, IN_CONNECT | IN_SENDMSG },
	/* These helpers are not available with lockdown=confidentiality. */
	{ "bpf_probe_read_kernel", BPF_FUNC_probe_read_kernel, ARGS_BUFFER,
	  IN_CONNECT | IN_SENDMSG | IN_EGRESS },
	{ "bpf_ktime_get_ns", BPF_FUNC_ktime_get_ns, ARGS_CTX,
	  IN_CONNECT | IN_SOCKOPS | IN_BIND | IN_TC | IN_SENDMSG | IN_EGRESS },
	{ "bpf_sk_fullsock", BPF_FUNC_sk_fullsock, ARGS_SOCKET, IN_EGRESS },
	{ "bpf_skb_ancestor_cgroup_id", BPF_FUNC_skb_ancestor_cgroup_id, ARGS_CTX_0,
	  IN_EGRESS | IN_INGRESS },
	{ "bpf_skb_cgroup_id", BPF_FUNC_skb_cgroup_id, ARGS_CTX, IN_EGRESS | IN_INGRESS },
	{ "bpf_ktime_get_coarse_ns", BPF_FUNC_ktime_get_coarse_ns, ARGS_CTX,
	  IN_CONNECT | IN_EGRESS | IN_INGRESS | IN_XDP },
	{ "bpf_xdp_get_buff_len", BPF_FUNC_xdp_get_buff_len, ARGS_CTX, IN_XDP },
	{ "bpf_sock_ops_cb_flags_set", BPF_FUNC_sock_ops_cb_flags_set, ARGS_CTX_0, IN_SOCKOPS },
};

#define INSNS_MAX 16
#define BUFFER	  16 /* bytes on the stack: a command's name, or an IPv4 tuple */

/*
 * Emits the arguments of a helper. On entry the context is in r1. Returns the number of
 * instructions.
 */
static size_t emit_args(struct bpf_insn *in, const struct probe *p, enum args args, int storage_fd)
{
	size_t n = 0;

	switch (args) {
	case ARGS_CTX:
		break;
	case ARGS_CTX_0:
		in[n++] = SET(BPF_REG_2, 0);
		break;
	case ARGS_NUMBER:
		in[n++] = SET(BPF_REG_1, 0);
		break;
	case ARGS_BUFFER:
		in[n++] = MOV(BPF_REG_1, BPF_REG_10);
		in[n++] = ADD(BPF_REG_1, -BUFFER);
		in[n++] = SET(BPF_REG_2, BUFFER);
		in[n++] = SET(BPF_REG_3, 0);
		break;
	case ARGS_LOOKUP:
		in[n++] = STORE64(BPF_REG_10, -16, 0);
		in[n++] = STORE64(BPF_REG_10, -8, 0);
		in[n++] = MOV(BPF_REG_2, BPF_REG_10);
		in[n++] = ADD(BPF_REG_2, -BUFFER);
		in[n++] = SET(BPF_REG_3, sizeof(((struct bpf_sock_tuple *)0)->ipv4));
		in[n++] = SET(BPF_REG_4, BPF_F_CURRENT_NETNS);
		in[n++] = SET(BPF_REG_5, 0);
		break;
	case ARGS_STORAGE:
		if (p->sk_offset < 0) {
			in[n++] = MOV(BPF_REG_2, BPF_REG_1);
		} else {
			in[n++] = LOAD64(BPF_REG_2, BPF_REG_1, (__s16)p->sk_offset);
			/* Skips the other arguments and the call. */
			in[n++] = JUMP_0(BPF_REG_2, 5);
		}
		in[n++] = INSN(BPF_LD | BPF_DW | BPF_IMM, BPF_REG_1, BPF_PSEUDO_MAP_FD, 0,
			       storage_fd);
		in[n++] = INSN(0, 0, 0, 0, 0);
		in[n++] = SET(BPF_REG_3, 0);
		in[n++] = SET(BPF_REG_4, 0);
		break;
	case ARGS_SOCKET:
		in[n++] = LOAD64(BPF_REG_1, BPF_REG_1, (__s16)p->sk_offset);
		in[n++] = JUMP_0(BPF_REG_1, 1); /* skips the call */
		break;
	case ARGS_OPTION:
		in[n++] = STORE64(BPF_REG_10, -8, 0);
		in[n++] = SET(BPF_REG_2, SOL_TCP);
		in[n++] = SET(BPF_REG_3, TCP_SYNCNT);
		in[n++] = MOV(BPF_REG_4, BPF_REG_10);
		in[n++] = ADD(BPF_REG_4, -8);
		in[n++] = SET(BPF_REG_5, sizeof(__u32));
		break;
	}
	return n;
}

/* Loads a program that calls one helper, or none. Returns an fd or -errno. */
static int load_probe(const struct probe *p, const struct helper *helper, int storage_fd)
{
	const struct hook *hook = &hooks[p->hook];
	LIBBPF_OPTS(bpf_prog_load_opts, opts, .expected_attach_type = hook->attach_type);
	struct bpf_insn in[INSNS_MAX];
	size_t n = 0;

	if (helper) {
		n = emit_args(in, p, helper->args, storage_fd);
		in[n++] = CALL(helper->id);
		if (helper->args == ARGS_LOOKUP) {
			in[n++] = JUMP_0(BPF_REG_0, 2);
			in[n++] = MOV(BPF_REG_1, BPF_REG_0);
			in[n++] = CALL(BPF_FUNC_sk_release);
		}
	}
	in[n++] = SET(BPF_REG_0, 1);
	in[n++] = EXIT;
	return bpf_prog_load(hook->prog_type, PROBE_NAME, "Dual BSD/GPL", in, n, &opts);
}

static bool is_denied(int r)
{
	return r == -EPERM || r == -EACCES;
}

/* Probes whether a link takes this program, see the top of this file. Returns 0 or -errno. */
static int probe_link(const struct hook *hook, int prog_fd)
{
	int fd = bpf_link_create(prog_fd, /* target_fd= */ -1, hook->attach_type, NULL);

	if (fd >= 0) {
		close(fd);
		return -EINVAL;
	}
	return fd == -EBADF ? 0 : fd;
}

static void check_program(struct doctor *d, const struct probe *p, int storage_fd)
{
	const struct hook *hook = &hooks[p->hook];
	_cleanup_close_ int prog_fd = load_probe(p, NULL, -1);
	unsigned int used = 0, missing = 0;
	size_t i;
	int r;

	if (prog_fd < 0) {
		doctor_add(d, DOCTOR_ERROR, "kernel", "does not support %s programs: %s",
			   hook->section, strerror(-prog_fd));
		doctor_fix(d, FIX_KERNEL);
		return;
	}
	r = hook_is_attached(hook) ? probe_link(hook, prog_fd) : 0;
	if (r < 0) {
		doctor_add(d, DOCTOR_ERROR, "kernel", "cannot attach %s programs by links: %s",
			   hook->section, strerror(-r));
		doctor_fix(d, FIX_KERNEL);
	}
	for (i = 0; i < ARRAY_SIZE(helpers); i++) {
		_cleanup_close_ int fd = -1;

		if (!(helpers[i].used & p->bit) ||
		    (helpers[i].args == ARGS_STORAGE && storage_fd < 0))
			continue;
		used++;
		fd = load_probe(p, &helpers[i], storage_fd);
		if (fd >= 0)
			continue;
		missing++;
		doctor_add(d, DOCTOR_ERROR, "kernel", "%s programs cannot call %s: %s",
			   hook->section, helpers[i].name, strerror(-fd));
		doctor_fix(d, FIX_KERNEL);
	}
	if (r == 0 && missing == 0)
		doctor_add(d, DOCTOR_OK, "kernel", "%s: programs%s and %u helper%s", hook->section,
			   hook_is_attached(hook) ? ", links" : "", used, used == 1 ? "" : "s");
}

/* Creates a socket storage, whose key and value need BTF. Returns an fd or -errno. */
static int create_storage(void)
{
	LIBBPF_OPTS(bpf_map_create_opts, opts, .map_flags = BPF_F_NO_PREALLOC | BPF_F_CLONE);
	struct btf *btf = btf__new_empty();
	int id, r;

	if (!btf)
		return -errno;
	id = btf__add_int(btf, "int", sizeof(int), BTF_INT_SIGNED);
	r = id < 0 ? id : btf__load_into_kernel(btf);
	if (r >= 0) {
		opts.btf_fd = (__u32)btf__fd(btf);
		opts.btf_key_type_id = opts.btf_value_type_id = (__u32)id;
		r = bpf_map_create(BPF_MAP_TYPE_SK_STORAGE, PROBE_NAME, sizeof(int), sizeof(int), 0,
				   &opts);
	}
	btf__free(btf);
	return r;
}

/* Creates an array of maps, or a map of a simpler type. Returns an fd or -errno. */
static int create_map(enum bpf_map_type type, __u32 key_size, __u32 flags)
{
	LIBBPF_OPTS(bpf_map_create_opts, opts, .map_flags = flags);
	_cleanup_close_ int inner_fd = -1;
	__u32 value_size = sizeof(__u64);

	if (type == BPF_MAP_TYPE_ARRAY_OF_MAPS) {
		inner_fd = create_map(BPF_MAP_TYPE_ARRAY, sizeof(__u32), 0);
		opts.inner_map_fd = (__u32)inner_fd;
		value_size = sizeof(__u32);
	}
	return bpf_map_create(type, PROBE_NAME, key_size, value_size, 1, &opts);
}

static void check_maps(struct doctor *d, int storage_fd)
{
	static const struct {
		const char *name;
		enum bpf_map_type type;
		__u32 key_size, flags;
	} maps[] = {
		{ "array", BPF_MAP_TYPE_ARRAY, sizeof(__u32), 0 },
		{ "per-CPU array", BPF_MAP_TYPE_PERCPU_ARRAY, sizeof(__u32), 0 },
		{ "hash", BPF_MAP_TYPE_HASH, sizeof(__u32), 0 },
		{ "LRU hash", BPF_MAP_TYPE_LRU_HASH, sizeof(__u32), 0 },
		{ "LPM trie", BPF_MAP_TYPE_LPM_TRIE, sizeof(__u64), BPF_F_NO_PREALLOC },
		{ "array of maps", BPF_MAP_TYPE_ARRAY_OF_MAPS, sizeof(__u32), 0 },
	};
	bool all = storage_fd >= 0;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(maps); i++) {
		int fd = create_map(maps[i].type, maps[i].key_size, maps[i].flags);

		if (fd >= 0) {
			close(fd);
			continue;
		}
		all = false;
		doctor_add(d, DOCTOR_ERROR, "kernel", "cannot create a map of type %s: %s",
			   maps[i].name, strerror(-fd));
		doctor_fix(d, FIX_KERNEL);
	}
	if (storage_fd < 0) {
		doctor_add(d, DOCTOR_ERROR, "kernel", "cannot create a socket storage with BTF: %s",
			   strerror(-storage_fd));
		doctor_fix(d, FIX_KERNEL);
	}
	if (all)
		doctor_add(
			d, DOCTOR_OK, "kernel",
			"maps: array, per-CPU array, hash, LRU hash, LPM trie, array of maps, socket storage with BTF");
}

/* The BPF programs read fields of the kernel's sockets, whose offsets come from BTF. */
static void check_btf(struct doctor *d)
{
	if (access("/sys/kernel/btf/vmlinux", R_OK) == 0) {
		doctor_add(d, DOCTOR_OK, "btf", "the kernel provides BTF");
		return;
	}
	doctor_add(d, DOCTOR_ERROR, "btf",
		   "/sys/kernel/btf/vmlinux: %s; nothing can be loaded without it",
		   strerror(errno));
	doctor_fix(d, "boot a kernel with CONFIG_DEBUG_INFO_BTF=y");
}

void doctor_kernel(struct doctor *d)
{
	_cleanup_close_ int storage_fd = -1;
	_cleanup_close_ int plain_fd = -1;
	size_t i;

	check_btf(d);
	plain_fd = load_probe(&probes[0], NULL, -1);
	if (is_denied(plain_fd)) {
		if (d->privileged) {
			doctor_add(d, DOCTOR_ERROR, "kernel",
				   "refuses to load any program, in spite of the privileges: %s",
				   strerror(-plain_fd));
			doctor_fix(d,
				   "look for a seccomp filter of a container, a security module or "
				   "kernel lockdown that denies bpf(2)");
		} else {
			doctor_add(d, DOCTOR_INFO, "kernel",
				   "was not probed, which takes privileges");
		}
		d->privileged = false;
		return;
	}
	storage_fd = create_storage();
	check_maps(d, storage_fd);
	for (i = 0; i < ARRAY_SIZE(probes); i++)
		check_program(d, &probes[i], storage_fd);
}
