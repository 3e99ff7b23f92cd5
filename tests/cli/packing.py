# SPDX-License-Identifier: BSD-2-Clause
"""Small bzImages, and kernels packed in them."""
import gzip
import struct


def bzimage(payload=b"", xloadflags=3):
    """A small bzImage of 64 KiB; at 0x400 in its program, what is packed in it."""
    setup = bytearray(5 * 512)
    setup[0x1F1] = 4
    struct.pack_into("<H", setup, 0x1FE, 0xAA55)
    setup[0x200:0x202] = b"\xeb\x6a"
    setup[0x202:0x206] = b"HdrS"
    struct.pack_into("<H", setup, 0x206, 0x20F)
    setup[0x211] = 1
    struct.pack_into("<I", setup, 0x1F4, 0x1000)
    struct.pack_into("<H", setup, 0x236, xloadflags)
    struct.pack_into("<I", setup, 0x238, 2047)
    struct.pack_into("<I", setup, 0x22C, 0x7FFFFFFF)
    struct.pack_into("<Q", setup, 0x258, 0x1000000)
    struct.pack_into("<I", setup, 0x260, 0x200000)
    struct.pack_into("<I", setup, 0x230, 0x200000)
    setup[0x234] = 1
    struct.pack_into("<II", setup, 0x248, 0x400 if payload else 0, len(payload))
    return bytes(setup) + b"\xf4" * 0x400 + payload + b"\xf4" * (0x10000 - 0x400 - len(payload))


def packed(inner, method=gzip.compress):
    """A bzImage with an ELF kernel in it, as Linux's build makes one: behind what is packed, its size unpacked."""
    return bzimage(method(inner) + (b"" if method is gzip.compress else struct.pack("<I", len(inner))))
