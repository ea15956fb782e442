// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * tproxyctl doctor: the block list in force. attached.c reports hooks that are missing although the
 * list has entries, xdp.c the interfaces.
 */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "block/store.h"
#include "bpffs.h"
#include "doctor.h"
#include "host/gateways.h"
#include "monotonic.h"
#include "quote.h"
#include "rules/prefix.h"
#include "state/pins.h"
#include "state/wait_lock.h"
#include "tproxy_abi.h"
#include "util.h"

/* Entries that ended this long ago are a finding: --follow would have removed them. */
#define LINGER_NS (UINT64_C(60) * 1000000000)

/* Returns true if all maps can be opened. block_store_open_read() logs errors, a check must not. */
static bool can_open(const struct doctor *d)
{
	static const enum pinned_map_id ids[] = { PINNED_BLOCK, PINNED_BLOCK_TRIES,
						  PINNED_BLOCK_TEXTS, PINNED_BLOCK_STATS };
	size_t i;

	for (i = 0; i < ARRAY_SIZE(ids); i++) {
		_cleanup_close_ int fd = -1;

		if (bpffs_open_map(d->pin_dir, ids[i], /* writable= */ false, &fd) < 0)
			return false;
	}
	return true;
}

static bool check_confirmed(struct doctor *d, const struct block_store *store)
{
	char quoted[SHELL_QUOTE_LEN(PATH_MAX)];

	if (!block_store_is_held(store))
		return true;
	shell_quote(d->pin_dir, quoted, sizeof(quoted));
	doctor_add(
		d, DOCTOR_WARNING, "block",
		wait_lock_is_held(d->pin_dir, WAIT_LOCK_BLOCK)
			? "generation %u of the list waits for confirmation, and the list cannot be changed"
			: "generation %u of the list was not confirmed, and the command that waited was killed: no process takes it back",
		block_store_facts(store)->generation);
	doctor_fix(
		d,
		"tproxyctl block --keep --pin-dir %s; or, to take it back: tproxyctl block --revert --pin-dir %s",
		quoted, quoted);
	return false;
}

static bool check_ended(struct doctor *d, const struct block_store *store)
{
	const uint64_t end = block_store_facts(store)->next_end_ns;

	if (!end || monotonic_kernel_ns() < end + LINGER_NS)
		return true;
	doctor_add(
		d, DOCTOR_INFO, "block",
		"entries of the list have ended, and take room until a command changes the list");
	doctor_fix_follow(d);
	return false;
}

/* Reports the first gateway that is blocked: to it packets of other hosts pass all the same. */
static bool check_gateways(struct doctor *d, const struct block_store *store)
{
	_cleanup_free_ struct gateway *list = NULL;
	char blocked[PREFIX_FORMAT_LEN], gateway[PREFIX_FORMAT_LEN], option[PINS_OPTION_LEN];
	const uint64_t now = monotonic_kernel_ns();
	struct tproxy_block_entry entry;
	struct tproxy_prefix around, allowed;
	size_t n = 0, i;

	if (gateways_read(&list, &n) < 0)
		return true;
	for (i = 0; i < n; i++) {
		struct tproxy_prefix host = { .n_bits = PREFIX_BITS_MAX };

		memcpy(host.addr, list[i].addr, sizeof(host.addr));
		if (block_store_around(store, TPROXY_BLOCK, &host, now, &around, &entry) <= 0 ||
		    block_store_around(store, TPROXY_ALLOW, &host, now, &allowed, &entry) != 0)
			continue;
		prefix_format(&host, gateway, sizeof(gateway));
		doctor_add(d, DOCTOR_WARNING, "block",
			   "the list blocks the default gateway %s, by %s", gateway,
			   prefix_format(&around, blocked, sizeof(blocked)));
		doctor_fix(d, "tproxyctl allow %s%s", gateway,
			   pins_format_option(d->pin_dir, option));
		return false;
	}
	return true;
}

void doctor_block(struct doctor *d)
{
	struct block_store store = BLOCK_STORE_NULL;
	const struct pins pins = { .path = d->pin_dir, .fd = -1 };
	const struct tproxy_block_slot *facts;
	bool good;

	if (!d->privileged || !d->loaded || !can_open(d) ||
	    block_store_open_read(&pins, &store) < 0) {
		block_store_close(&store);
		return;
	}
	facts = block_store_facts(&store);
	good = check_confirmed(d, &store);
	good &= check_ended(d, &store);
	good &= check_gateways(d, &store);
	if (good && (facts->n_entries[TPROXY_BLOCK] || facts->n_entries[TPROXY_ALLOW]))
		doctor_add(d, DOCTOR_OK, "block", "the list blocks %u and allows %u",
			   facts->n_entries[TPROXY_BLOCK], facts->n_entries[TPROXY_ALLOW]);
	block_store_close(&store);
}
