#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#
# One connection of a program that does not know tproxy. Prints the HTTP status and the peer that it
# sees.
# Usage: fetch.sh [HOST]
exec curl -sS --max-time 60 -o /dev/null -w '%{http_code} %{remote_ip}:%{remote_port}\n' \
    "http://${1:-10.213.7.2}/"
