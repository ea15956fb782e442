/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The files of the page. embed.py makes their definitions at build time. */
#ifndef TPROXY_ADMIN_PAGE_H
#define TPROXY_ADMIN_PAGE_H

#include <stddef.h>

extern const unsigned char admin_page_html[], admin_page_css[], admin_page_js[];
extern const size_t admin_page_html_len, admin_page_css_len, admin_page_js_len;

#endif
