// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* tproxy-load --follow. See types.h. */
#include "types.h"

#include <bpf/btf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <string.h>

#include "log.h"
#include "tproxy.skel.h"

static struct inner_map_types types_of(int btf_fd, const struct bpf_map *map)
{
	return (struct inner_map_types){
		.btf_fd = btf_fd,
		.key_id = bpf_map__btf_key_type_id(map),
		.value_id = bpf_map__btf_value_type_id(map),
	};
}

int types_open(struct types *types)
{
	struct btf *btf;
	int r;

	*types = (struct types){ .skel = tproxy_bpf__open() };
	r = types->skel ? 0 : -errno;
	btf = r == 0 ? bpf_object__btf(types->skel->obj) : NULL;
	if (r == 0)
		r = btf ? btf__load_into_kernel(btf) : -ENODATA;
	if (r < 0) {
		log_err("cannot load the types of the maps: %s", strerror(-r));
		return r;
	}
	types->rules = types_of(btf__fd(btf), types->skel->maps.map_rules_active);
	types->sets = types_of(btf__fd(btf), types->skel->maps.map_sets_active);
	types->block = types_of(btf__fd(btf), types->skel->maps.map_block_0);
	return 0;
}

void types_close(struct types *types)
{
	tproxy_bpf__destroy(types->skel);
	*types = (struct types){};
}
