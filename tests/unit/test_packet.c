// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Tests bpf/packet.bpf.h and bpf/block.bpf.h, built by the host's compiler: the frames of frames.h,
 * each of them cut at each byte; and look-ups in a list that is searched one entry after the other.
 */
#include "packet.bpf.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "block.bpf.h"
#include "frames.h"
#include "srcroute.bpf.h"
#include "unit.h"
#include "util.h"

/* A trie: its entries in any order. */
struct list {
	struct tproxy_prefix prefixes[16];
	struct tproxy_block_entry entries[16];
	size_t n;
};

static __u64 now_ns;
static unsigned int n_lookups;

static bool contains(const struct tproxy_prefix *prefix, const struct tproxy_prefix *key)
{
	__u32 i;

	for (i = 0; i < prefix->n_bits; i++) {
		if ((prefix->addr[i / 8] ^ key->addr[i / 8]) & 0x80 >> i % 8)
			return false;
	}
	return prefix->n_bits <= key->n_bits;
}

static struct tproxy_block_entry *block_lookup(void *trie, const struct tproxy_prefix *key)
{
	struct tproxy_block_entry *found = NULL;
	struct list *list = trie;
	size_t i;

	n_lookups++;
	for (i = 0; i < list->n; i++) {
		if (contains(&list->prefixes[i], key) &&
		    (!found || list->entries[i].n_bits > found->n_bits))
			found = &list->entries[i];
	}
	return found;
}

static __u64 block_now(void)
{
	return now_ns;
}

/* Reads an address in the form of tproxy_abi.h. */
static void read_address(const char *text, __u8 ret[16])
{
	static const __u8 mapped[12] = { [10] = 0xff, [11] = 0xff };

	memcpy(ret, mapped, sizeof(mapped));
	if (inet_pton(AF_INET, text, &ret[12]) != 1)
		assert_int_equal(inet_pton(AF_INET6, text, ret), 1);
}

static void check_address(const struct packet *packet, bool source, const char *text)
{
	struct tproxy_prefix key;
	__u8 expected[16];

	memset(&key, 0xa5, sizeof(key));
	packet_address(packet, source, &key);
	read_address(text, expected);
	assert_int_equal(key.n_bits, 128);
	assert_memory_equal(key.addr, expected, sizeof(expected));
}

static void each_frame_is_parsed(void **state)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(frames); i++) {
		const struct frame *f = &frames[i];
		const __u8 *data = (const __u8 *)f->bytes;
		struct packet packet = {};

		if (packet_open_frame(data, data + f->size, &packet) != f->kind)
			fail_msg("%s: of another kind", f->name);
		if (f->kind != PACKET_IP)
			continue;
		check_address(&packet, true, f->source);
		check_address(&packet, false, f->destination);
		if (packet_is_control(&packet) != f->control)
			fail_msg("%s: %s a control packet", f->name, f->control ? "not" : "is");
	}
}

/* A packet that begins with the IP header. */
struct bytes {
	const __u8 *bytes;
	__u32 size;
};

static int srcroute_load(const void *packet, __u32 at, void *ret, __u32 size)
{
	const struct bytes *from = packet;

	if (at > from->size || size > from->size - at)
		return -EFAULT;
	memcpy(ret, from->bytes + at, size);
	return 0;
}

/* To see it fail: leave out the check of the pointer, or of the end, in srcroute_find4(). */
static void source_routes_are_found(void **state)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(frames); i++) {
		const struct frame *f = &frames[i];
		const __u8 *data = (const __u8 *)f->bytes;
		struct packet packet = {};
		struct tproxy_prefix key;
		struct bytes bytes;
		__u8 final[16];
		bool found;

		if (packet_open_frame(data, data + f->size, &packet) != PACKET_IP)
			continue;
		bytes = (struct bytes){ packet.ip, (__u32)(packet.end - packet.ip) };
		found = srcroute_find(&bytes, packet.version, &key);
		if (found != (f->final != NULL) || (found && !srcroute_is_possible(&packet)))
			fail_msg("%s: %s", f->name, found ? "found" : "not found");
		if (!found)
			continue;
		read_address(f->final, final);
		assert_int_equal(key.n_bits, 128);
		assert_memory_equal(key.addr, final, sizeof(final));
	}
}

/* In a buffer of the exact size, so that ASan and valgrind see each access beyond the end. */
static void cut_frames_are_not_read_beyond_the_end(void **state)
{
	size_t i, size;

	for (i = 0; i < ARRAY_SIZE(frames); i++) {
		for (size = 0; size < frames[i].size; size++) {
			__u8 *data = malloc(size + 1);
			struct packet packet = {};

			assert_non_null(data);
			/* The byte after the end differs: a verdict must not depend on it. */
			memcpy(data, frames[i].bytes, size);
			data[size] = 0xff;
			if (packet_open_frame(data, data + size, &packet) == PACKET_IP) {
				struct tproxy_prefix key;

				assert_ptr_equal(packet.end, data + size);
				packet_address(&packet, true, &key);
				if (packet_is_control(&packet))
					assert_true(frames[i].control);
			}
			free(data);
		}
	}
}

static struct tproxy_block_entry *add(struct list *list, const char *address, __u32 n_bits,
				      __u64 ends_ns)
{
	struct tproxy_prefix *prefix = &list->prefixes[list->n];
	struct tproxy_block_entry *entry = &list->entries[list->n];

	assert_true(list->n++ < ARRAY_SIZE(list->entries));
	read_address(address, prefix->addr);
	prefix->n_bits = strchr(address, ':') ? n_bits : 96 + n_bits;
	*entry = (struct tproxy_block_entry){ .n_bits = prefix->n_bits, .ends_ns = ends_ns };
	return entry;
}

static enum block_verdict decide(struct list *block, struct list *allow, const char *address,
				 struct tproxy_block_entry **ret_entry)
{
	const struct block_tries tries = { block, allow };
	struct tproxy_prefix key;

	read_address(address, key.addr);
	key.n_bits = 77; /* block_decide() sets it */
	n_lookups = 0;
	return block_decide(&tries, &key, ret_entry);
}

static void longest_entry_decides(void **state)
{
	struct list block = {}, allow = {};
	struct tproxy_block_entry *net = add(&block, "192.0.2.0", 24, 0),
				  *host = add(&block, "192.0.2.1", 32, 0),
				  *six = add(&block, "2001:db8::", 32, 0), *entry;

	assert_int_equal(decide(&block, NULL, "192.0.2.1", &entry), BLOCK_DROP);
	assert_ptr_equal(entry, host);
	assert_int_equal(decide(&block, NULL, "192.0.2.2", &entry), BLOCK_DROP);
	assert_ptr_equal(entry, net);
	assert_int_equal(decide(&block, NULL, "2001:db8:1::1", &entry), BLOCK_DROP);
	assert_ptr_equal(entry, six);
	assert_int_equal(decide(&block, NULL, "192.0.3.1", &entry), BLOCK_PASS);
	assert_null(entry);
	assert_int_equal(decide(&block, &allow, "192.0.2.1", &entry), BLOCK_DROP);
	assert_int_equal(decide(&block, NULL, "2001:db9::1", &entry), BLOCK_PASS);
}

/* Also if the blocked prefix is longer than the allowed one. */
static void allow_wins(void **state)
{
	struct list block = {}, allow = {};
	struct tproxy_block_entry *allowed = add(&allow, "192.0.2.0", 24, 0), *entry;

	add(&block, "192.0.2.1", 32, 0);
	add(&block, "198.51.100.0", 24, 0);
	add(&allow, "203.0.113.1", 32, 0);
	assert_int_equal(decide(&block, &allow, "192.0.2.1", &entry), BLOCK_ALLOWED);
	assert_ptr_equal(entry, allowed);
	assert_int_equal(decide(&block, &allow, "198.51.100.9", &entry), BLOCK_DROP);
	/* Allowed and not blocked: nothing is counted. */
	assert_int_equal(decide(&block, &allow, "203.0.113.1", &entry), BLOCK_PASS);
	assert_int_equal(n_lookups, 1);
}

/* ::/0 and ::/8 contain ::ffff:0:0/96, but they are prefixes of IPv6. */
static void prefixes_of_ipv6_are_not_those_of_ipv4(void **state)
{
	struct list block = {}, allow = {};
	struct tproxy_block_entry *entry;

	add(&block, "::", 0, 0);
	assert_int_equal(decide(&block, NULL, "192.0.2.1", &entry), BLOCK_PASS);
	assert_int_equal(decide(&block, NULL, "2001:db8::1", &entry), BLOCK_DROP);
	add(&block, "192.0.2.0", 24, 0);
	add(&allow, "::", 8, 0);
	assert_int_equal(decide(&block, &allow, "192.0.2.1", &entry), BLOCK_DROP);
	add(&allow, "0.0.0.0", 0, 0);
	assert_int_equal(decide(&block, &allow, "192.0.2.1", &entry), BLOCK_ALLOWED);
	assert_int_equal(decide(&block, &allow, "2001:db8::1", &entry), BLOCK_DROP);
}

static void ended_entries_uncover_shorter_ones(void **state)
{
	struct list block = {}, allow = {};
	struct tproxy_block_entry *net = add(&block, "192.0.2.0", 24, 200), *entry;

	add(&block, "192.0.2.1", 32, 100);
	add(&allow, "192.0.2.1", 32, 150);
	now_ns = 99;
	assert_int_equal(decide(&block, NULL, "192.0.2.1", &entry), BLOCK_DROP);
	assert_int_equal(entry->n_bits, 128);
	now_ns = 100;
	assert_int_equal(decide(&block, NULL, "192.0.2.1", &entry), BLOCK_DROP);
	assert_ptr_equal(entry, net);
	assert_int_equal(decide(&block, &allow, "192.0.2.1", &entry), BLOCK_ALLOWED);
	now_ns = 150;
	assert_int_equal(decide(&block, &allow, "192.0.2.1", &entry), BLOCK_DROP);
	now_ns = 200;
	assert_int_equal(decide(&block, &allow, "192.0.2.1", &entry), BLOCK_PASS);
	/* An ended ::/0 has no shorter one; an ended 0.0.0.0/0 does not uncover ::/0. */
	add(&block, "0.0.0.0", 0, 200);
	assert_int_equal(decide(&block, NULL, "198.51.100.1", &entry), BLOCK_PASS);
	add(&block, "::", 0, 300);
	assert_int_equal(decide(&block, NULL, "198.51.100.1", &entry), BLOCK_PASS);
	assert_int_equal(decide(&block, NULL, "2001:db8::1", &entry), BLOCK_DROP);
	now_ns = 300;
	assert_int_equal(decide(&block, NULL, "2001:db8::1", &entry), BLOCK_PASS);
}

static void nest_of_ended_entries_has_a_limit(void **state)
{
	struct list block = {};
	struct tproxy_block_entry *entry;
	__u32 i;

	now_ns = 2;
	for (i = 0; i < TPROXY_BLOCK_ENDED_MAX; i++)
		add(&block, "192.0.2.1", 32 - i, 1);
	add(&block, "192.0.0.0", 16, 0);
	assert_int_equal(decide(&block, NULL, "192.0.2.1", &entry), BLOCK_DROP);
	assert_int_equal(entry->n_bits, 96 + 16);
	add(&block, "192.0.2.1", 32 - i, 1);
	assert_int_equal(decide(&block, NULL, "192.0.2.1", &entry), BLOCK_PASS);
	assert_int_equal(n_lookups, TPROXY_BLOCK_ENDED_MAX + 1);
}

static __u32 error_of(__u32 first, __u32 second, __u32 state)
{
	const struct tproxy_block block = {
		.slots = { { .error = first }, { .error = second } },
	};

	return block_error_of(&block, state);
}

/* Of the list that decided, which state names. */
static void error_is_an_errno(void **state)
{
	assert_int_equal(error_of(0, ENOENT, TPROXY_BLOCK_ENTRIES), EACCES);
	assert_int_equal(error_of(ENETUNREACH, 0, TPROXY_BLOCK_ENTRIES), ENETUNREACH);
	assert_int_equal(error_of(0, ENETUNREACH, TPROXY_BLOCK_SLOT), ENETUNREACH);
	assert_int_equal(error_of(4096, 0, 0), EACCES);
	assert_int_equal(error_of((__u32)-1, 0, 0), EACCES);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_frame_is_parsed),
		cmocka_unit_test(source_routes_are_found),
		cmocka_unit_test(cut_frames_are_not_read_beyond_the_end),
		cmocka_unit_test(longest_entry_decides),
		cmocka_unit_test(allow_wins),
		cmocka_unit_test(prefixes_of_ipv6_are_not_those_of_ipv4),
		cmocka_unit_test(ended_entries_uncover_shorter_ones),
		cmocka_unit_test(nest_of_ended_entries_has_a_limit),
		cmocka_unit_test(error_is_an_errno),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
