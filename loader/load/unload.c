// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * tproxy-load --unload: undoes load.c in reverse order. The links of connect and the registrations
 * go first, so that no new connection is redirected when the hooks go that serve redirected ones.
 * Then pending handshakes get time to end. The other links, programs, maps and the directory
 * follow.
 */
#include "unload.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "bpffs.h"
#include "escape.h"
#include "handshakes.h"
#include "log.h"
#include "objects.h"
#include "search_bit.h"
#include "state/owned.h"
#include "state/pinned_link.h"
#include "state/pins.h"
#include "state/policy.h"
#include "state/relays.h"
#include "state/xdp_link.h"
#include "tproxy_abi.h"
#include "util.h"
#include "withdraw.h"

/* As owned_by_tproxy(), but a failure is logged. */
static int examine(const struct pins *pins, const char *name)
{
	int r = owned_by_tproxy(pins, name);

	if (r < 0)
		log_err("cannot examine '%s/%s': %s", pins->path, name, strerror(-r));
	return r;
}

/*
 * A callback of pins_for_each(): removes a pin of tproxy whose name begins with the prefix @data.
 */
static int remove_prefix(struct pins *pins, const char *name, void *data)
{
	const char *prefix = data;
	int r;

	if (strncmp(name, prefix, strlen(prefix)) != 0)
		return 0;
	r = examine(pins, name);
	if (r <= 0)
		return r;
	if (strncmp(name, "link_", 5) == 0 ||
	    strncmp(name, XDP_LINK_PREFIX, strlen(XDP_LINK_PREFIX)) == 0)
		return pinned_link_remove(pins, name);
	return pins_remove(pins, name);
}

static int refuse_foreign(struct pins *pins, const char *name, void *data)
{
	int r = examine(pins, name);

	if (r != 0)
		return r < 0 ? r : 0;
	log_err("'%s/%s' was not created by tproxy-load; it stays with its directory, remove it by hand",
		pins->path, name);
	return -EEXIST;
}

/*
 * Deletes the registrations. Programs that `tproxyctl run` attached stay, and must not redirect to
 * a relay that can no longer ask for destinations. The pin goes first: a relay without it does not
 * register again. *ret_fd is the map.
 */
static int withdraw(struct pins *pins, int *ret_fd)
{
	int r;

	if (bpffs_open_map(pins->path, PINNED_CONFIG, /* writable= */ true, ret_fd) < 0)
		return 0; /* a part of what is loaded is missing, or of another ABI version */
	r = pins_for_each(pins, remove_prefix, "map_config");
	if (r == 0)
		withdraw_all(*ret_fd);
	return r;
}

/*
 * Lets pending handshakes end. A connection that was redirected a moment ago needs the other hooks:
 * sockops, to hand its record to the accepted socket, and getsockopt, for the relay's question.
 */
static void let_handshakes_end(const char *path, const struct relays_entry *list, size_t n)
{
	_cleanup_close_ int fd = -1;
	__u64 cookie;

	if (bpffs_open_map(path, PINNED_SOCKS, /* writable= */ false, &fd) < 0 ||
	    bpf_map_get_next_key(fd, NULL, &cookie) < 0)
		return;
	handshakes_let_end(list, n, fd);
}

/*
 * Returns true if the loader set the search bit on the bpffs root (tproxy_policy.opened_bpffs), and
 * false for pins of another ABI version. Version 0 also counts: a first load died after it had set
 * the bit.
 */
static bool did_open_bpffs(const char *path)
{
	struct tproxy_policy policy;

	return policy_read_pinned(path, &policy) == 0 &&
	       (policy.abi_version == TPROXY_ABI_VERSION || policy.abi_version == 0) &&
	       policy.opened_bpffs;
}

static int remove_maps(struct pins *pins)
{
	int r;

	/*
	 * map_marks goes first. If we die here, the next load creates the missing maps. A listener
	 * whose mark is in the old map_marks must not be found by connect while it is missing from
	 * a new map_listeners.
	 */
	r = pins_for_each(pins, remove_prefix, "map_marks");
	/*
	 * Then the rules, before the sets that they use. map_rules is the truth, so it is removed
	 * after the other pins of rules, which may lag behind.
	 */
	if (r == 0)
		r = pins_for_each(pins, remove_prefix, "map_rules_");
	if (r == 0)
		r = pins_for_each(pins, remove_prefix, "map_rules");
	if (r == 0)
		r = pins_for_each(pins, remove_prefix, "map_");
	if (r == 0)
		r = pins_for_each(pins, remove_prefix, PINNED_RING_PREFIX);
	return r;
}

int unload(const char *path)
{
	char shown[ESCAPE_LEN(PATH_MAX)];
	_cleanup_(pins_close) struct pins pins = PINS_NULL;
	_cleanup_free_ struct relays_entry *relays = NULL;
	_cleanup_close_ int config_fd = -1;
	size_t n_relays = 0;
	int r;

	r = pins_open(path, /* create= */ false, &pins);
	if (r == -ENOENT) {
		printf("nothing is loaded in '%s'\n",
		       escape_text(path, strlen(path), shown, sizeof(shown)));
		return 0;
	}
	if (r < 0)
		return r;
	r = pins_for_each(&pins, remove_prefix, "link_connect");
	if (r < 0)
		return r;
	relays_read_pinned(pins.path, &relays, &n_relays);
	r = withdraw(&pins, &config_fd);
	if (r < 0)
		return r;
	let_handshakes_end(pins.path, relays, n_relays);
	r = pins_for_each(&pins, remove_prefix, "link_");
	/* First the program: if we die in between, tproxy-load --follow cannot attach it again. */
	if (r == 0)
		r = pins_for_each(&pins, remove_prefix, "prog_xdp");
	if (r == 0)
		r = pins_for_each(&pins, remove_prefix, XDP_LINK_PREFIX);
	if (r == 0)
		r = pins_for_each(&pins, remove_prefix, PINNED_LIST);
	if (r == 0)
		r = pins_for_each(&pins, remove_prefix, "prog_");
	if (r < 0)
		return r;
	/* Do this while map_policy still records it: if we die here, the next run does it. */
	if (did_open_bpffs(pins.path))
		search_bit_clear(&pins);
	r = remove_maps(&pins);
	if (config_fd >= 0)
		withdraw_all(config_fd); /* a relay may have registered as the pin went */
	if (r == 0)
		r = pins_for_each(&pins, refuse_foreign, NULL);
	if (r == 0)
		r = pins_remove_dir(&pins);
	if (r < 0)
		return r;
	printf("unloaded: nothing is pinned in '%s' or attached from there\n",
	       escape_text(path, strlen(path), shown, sizeof(shown)));
	return 0;
}
