/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Reads the sections [upstream NAME] and [names] of the configuration file into struct
 * upstreams_conf. The caller passes each section and each of its keys, in the file's order, then
 * asks for the checks that need all sections, and then for the passwords. No other function opens a
 * file or needs rights, so --check can report wrong sections to every user.
 */
#ifndef TPROXY_UPSTREAM_CONFIG_H
#define TPROXY_UPSTREAM_CONFIG_H

#include "configfile.h"

struct upstream_reader;
struct upstreams_conf;

/*
 * Makes a reader that fills *conf, which is empty and must outlive it. conf owns what was read,
 * also after an error. Returns NULL if memory is short.
 */
struct upstream_reader *upstream_reader_create(struct upstreams_conf *conf);
/* NULL is ignored. */
void upstream_reader_destroy(struct upstream_reader *reader);

/*
 * Begins a section; name is NULL for [names]. The keys that follow belong to it. Returns 0, or
 * -errno with a message in error; then upstream_reader_set() accepts and ignores them.
 */
int upstream_reader_begin(struct upstream_reader *reader, const char *section, const char *name,
			  unsigned int line, char error[CONFIGFILE_ERROR_LEN]);
/* Sets a key. Returns 0, or -errno with a message in error, which does not name the key. */
int upstream_reader_set(struct upstream_reader *reader, const char *key, const char *value,
			unsigned int line, char error[CONFIGFILE_ERROR_LEN]);

/*
 * Checks what needs all keys and sections, and sets defaults: that no upstream lacks a key or has
 * one of another type, and that the names that sections refer to exist. Logs each mistake as
 * PATH:LINE: MESSAGE. Returns 0 or -EINVAL.
 */
int upstream_reader_check(const struct upstream_reader *reader, const char *path);

/* Returns true if there is an upstream of this name. */
bool upstream_config_has(const struct upstreams_conf *conf, const char *name);

/*
 * Reads the passwords of all upstreams that have one, and do not hold it yet. Logs each failure as
 * PATH:LINE: MESSAGE, LINE being that of the key. Returns 0 or the first -errno.
 */
int upstream_config_read_secrets(struct upstreams_conf *conf, const char *path);

#endif
