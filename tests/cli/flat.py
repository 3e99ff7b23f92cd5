# SPDX-License-Identifier: BSD-2-Clause
"""Kernels of a few instructions, put together by hand: what a test of the command line needs as a guest."""
import struct

POWER_OFF = b"\x66\xba\x04\x06\x66\xb8\x00\x34\x66\xef\xf4"  # mov $0x604, %dx; mov $0x3400, %ax; out %ax, (%dx); hlt


def write(path, code):
    """A PVH kernel of these bytes of 32-bit code, as a file; its path."""
    note = struct.pack("<III4sI", 4, 4, 18, b"Xen\0", 0x100000)
    header = struct.pack("<4sBBBB8xHHIQQQIHHHHHH", b"\x7fELF", 2, 1, 1, 0, 2, 62, 1, 0x100000, 64, 0, 0, 64, 56, 2,
                         0, 0, 0)
    segments = struct.pack("<IIQQQQQQ", 1, 5, 4096, 0x100000, 0x100000, len(code), len(code), 4096)
    segments += struct.pack("<IIQQQQQQ", 4, 4, 176, 0, 0, len(note), len(note), 4)
    with open(path, "wb") as file:
        file.write((header + segments + note).ljust(4096, b"\0") + code)
    return path


def port(number):
    """mov $number, %dx"""
    return b"\x66\xba" + struct.pack("<H", number)


def say(text, base=0x3F8):
    """Code that writes `text` to the UART at `base`, without a look whether it can take it."""
    return port(base) + b"".join(b"\xb0" + bytes([byte]) + b"\xee" for byte in text)  # mov $byte, %al; out %al, (%dx)


def pattern(count):
    """What stream() writes."""
    return bytes((i ^ i >> 8) & 255 for i in range(count))


def stream(count, base=0x3F8, interrupt=True):
    """
    Code that writes pattern(count), a FIFO's worth whenever the transmitter is empty; `interrupt`: with its interrupt
    on (which nobody takes), as a driver does that has something else to do meanwhile.
    """
    start = port(base + 2) + b"\xb0\x01\xee" + port(base + 1) + (b"\xb0\x02\xee" if interrupt else b"\xb0\x00\xee")
    start += b"\x31\xdb"  # xor %ebx, %ebx
    wait = port(base + 5) + b"\xec\xa8\x20\x74\xfb" + port(base)  # 1: in; test $0x20, %al; jz 1b
    wait += b"\xb9\x10\x00\x00\x00"  # mov $16, %ecx
    byte = b"\x88\xd8\x30\xf8\xee\x43"  # 2: mov %bl, %al; xor %bh, %al; out; inc %ebx
    byte += b"\xe2" + struct.pack("b", -len(byte) - 2)  # loop 2b
    tail = b"\x81\xfb" + struct.pack("<I", count)  # cmp $count, %ebx
    body = wait + byte + tail
    return start + body + b"\x75" + struct.pack("b", -len(body) - 2)  # jne


def echo(base=0x3F8, until=b"q"):
    """Code that sends back what it gets, up to `until`."""
    code = port(base + 5) + b"\xec\xa8\x01\x74\xfb" + port(base)  # 1: in; test $1, %al; jz 1b
    code += b"\xec\x3c" + until + b"\x74\x03\xee"  # in; cmp $until, %al; je 2f; out
    return code + b"\xeb" + struct.pack("b", -len(code) - 2)  # jmp; 2:
