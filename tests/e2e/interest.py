# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""map_interest in tests: who is interested in connections, struct tproxy_interest."""

import struct

WATCHERS_MAX = 4  # TPROXY_WATCHERS_MAX
_FORM = "=IIII" + "QQ" * WATCHERS_MAX


class Interest:
    """A copy of the map's value."""

    def __init__(self, pins):
        with pins.open("map_interest") as state:
            fields = struct.unpack(_FORM, state.lookup(bytes(4)))
        self.watching, self.observed_s, self.inbound, _, *watchers = fields
        self.alive_ns, self.lost = watchers[::2], watchers[1::2]

    def write(self, pins):
        watchers = (number for pair in zip(self.alive_ns, self.lost) for number in pair)
        with pins.open("map_interest") as state:
            state.update(bytes(4), struct.pack(_FORM, self.watching, self.observed_s,
                                               self.inbound, 0, *watchers))


def change(pins, **fields):
    """Sets these fields, and writes the others back as they were read."""
    interest = Interest(pins)
    for name, value in fields.items():
        setattr(interest, name, value)
    interest.write(pins)
