// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* tproxyctl: the comments of entries, in map_block_texts. See store.h. */
#include <bpf/bpf.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "log.h"
#include "store.h"
#include "util.h"

int block_store_read_texts(const struct block_store *s, struct tproxy_block_text **ret_texts)
{
	_cleanup_free_ struct tproxy_block_text *texts =
		calloc(TPROXY_BLOCK_TEXTS_MAX, sizeof(*texts));
	__u32 i;
	int r = texts ? 0 : -ENOMEM;

	for (i = 1; i < TPROXY_BLOCK_TEXTS_MAX && r == 0; i++) {
		r = bpf_map_lookup_elem(s->texts_fd, &i, &texts[i]);
		texts[i].text[sizeof(texts[i].text) - 1] = '\0';
	}
	if (r < 0)
		return block_store_log_error(s, "read the comments", r);
	*ret_texts = TAKE_PTR(texts);
	return 0;
}

/* Empties the texts that no entry uses. */
static int free_unused(struct block_store *s, struct tproxy_block_text *texts)
{
	bool used[TPROXY_BLOCK_TEXTS_MAX] = {};
	struct block_list list = {};
	size_t kind, i;
	int r = block_store_read(s, &list);

	for (kind = 0; kind < _TPROXY_BLOCK_KIND_MAX && r == 0; kind++) {
		for (i = 0; i < list.kinds[kind].n; i++)
			used[list.kinds[kind].list[i].entry.comment % TPROXY_BLOCK_TEXTS_MAX] =
				true;
	}
	for (i = 1; i < TPROXY_BLOCK_TEXTS_MAX && r == 0; i++) {
		if (!used[i] && !s->assigned[i])
			*texts[i].text = '\0';
	}
	block_list_finish(&list);
	return r;
}

static size_t find_text(const struct tproxy_block_text *texts, const char *text)
{
	size_t i = 1;

	while (i < TPROXY_BLOCK_TEXTS_MAX && strcmp(texts[i].text, text) != 0)
		i++;
	return i;
}

int block_store_text(struct block_store *s, const char *text, __u16 *ret_index)
{
	_cleanup_free_ struct tproxy_block_text *texts = NULL;
	struct tproxy_block_text new = {};
	__u32 i;
	int r;

	if (!*text) {
		*ret_index = 0;
		return 0;
	}
	snprintf(new.text, sizeof(new.text), "%s", text);
	r = block_store_read_texts(s, &texts);
	if (r < 0)
		return r;
	i = (__u32)find_text(texts, new.text);
	if (i == TPROXY_BLOCK_TEXTS_MAX)
		i = (__u32)find_text(texts, "");
	if (i == TPROXY_BLOCK_TEXTS_MAX) {
		r = free_unused(s, texts);
		if (r < 0)
			return r;
		i = (__u32)find_text(texts, "");
	}
	if (r == 0 && i == TPROXY_BLOCK_TEXTS_MAX) {
		log_err("the list has %d different comments, and no room for another; use one of them, or remove entries",
			TPROXY_BLOCK_TEXTS_MAX - 1);
		return -ENOSPC;
	}
	if (r == 0)
		r = bpf_map_update_elem(s->texts_fd, &i, &new, BPF_ANY);
	if (r < 0)
		return block_store_log_error(s, "write a comment", r);
	s->assigned[i] = true;
	*ret_index = (__u16)i;
	return 0;
}
