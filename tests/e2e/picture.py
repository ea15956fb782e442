# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Makes the picture of the page for README.md, from programs that run for two minutes. pngquant
must be installed:

    sudo TPROXY_PICTURE=proxy/admin/page.png /usr/bin/python3 -m pytest tests/e2e/picture.py
"""

import contextlib
import ctypes
import math
import os
import random
import struct
import subprocess
import time
import zlib
from pathlib import Path

import pytest

import wire
from harness import NOBODY, SERVER, SERVER2
from test_admin import busy, page, serve, tcp  # noqa: F401 (fixtures)
from test_log import PR_SET_NAME

SECONDS = float(os.environ.get("TPROXY_PICTURE_SECONDS", "125"))
SIZE = 150_000  # bytes of a download
WIDTH, HEIGHT = 1080, 1180
LICENCE = b"SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause"


def download(seconds):
    """Connections of a build: many, then few, and some that fail."""
    ctypes.CDLL(None).prctl(PR_SET_NAME, b"make")
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        with contextlib.suppress(OSError):
            address = random.choices([(SERVER, 8443), (SERVER2, 8443), NOBODY, (SERVER, 25)],
                                     [60, 30, 1, 2])[0]
            with wire.connect(address) as sock:
                sock.sendall(bytes(random.randrange(200, 20_000)))
                wire.read_exactly(sock, SIZE)
        time.sleep(0.12 + 0.1 * math.sin(left / 9))


def with_text(png, text):
    """The picture with a text chunk behind its header."""
    chunk = b"tEXt" + b"Copyright\0" + text
    where = 8 + 4 + 4 + 13 + 4
    return (png[:where] + struct.pack(">I", len(chunk) - 4) + chunk +
            struct.pack(">I", zlib.crc32(chunk)) + png[where:])


@pytest.mark.deadline(300)
def test_picture(page):  # noqa: F811
    bed = page.admin.bed
    listeners = [bed.listen(address, 8443) for address in (SERVER, SERVER2)]
    bed.task(serve, [(listener, SIZE) for listener in listeners], place=bed.server)
    for _ in range(2):
        bed.task(download, SECONDS + 60)
    page.resize(WIDTH, 1000)
    time.sleep(SECONDS)
    page.resize(WIDTH, HEIGHT)
    time.sleep(0.3)
    small = subprocess.run(["pngquant", "--speed", "1", "48", "-"], input=page.picture(),
                           stdout=subprocess.PIPE, check=True).stdout
    Path(os.environ["TPROXY_PICTURE"]).write_bytes(with_text(small, LICENCE))
