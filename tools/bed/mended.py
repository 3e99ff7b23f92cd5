# SPDX-License-Identifier: BSD-2-Clause
"""QEMU without a defect of its AMD-V: a copy of the host's program that differs from it by one instruction.

VMRUN with an interrupt to inject delivers it at once (AMD64 APM volume 2, 15.20), but QEMU leaves the vector in the CPU's
`exception_index` as well, where its main loop finds exceptions that are still to be delivered. Mostly the next VMEXIT writes
over it. Where the loop has to be left before, above all for a timer that is due by the count of instructions, the guest gets
that interrupt again, with its interrupts off, in the middle of the handler, and waits for ever for a lock that it holds
itself. So in 7.2 (Debian 12), in 10.0 (Debian 13), and in the sources since.
"""

import contextlib
import glob
import os
import re
import zlib

from . import packages, ui

# Of registers with a displacement of 32 bits; without the two that take one byte more.
_MEMORY = rb"[\x80-\x83\x85-\x8b\x8d-\x93\x95-\x9b\x9d-\xa3\xa5-\xab\xad-\xb3\xb5-\xbb\xbd-\xbf].{4}"

# In helper_vmrun(), for an interrupt: exception_index = vector; exception_is_int = 0; exception_next_eip = -1; and the call of
# do_interrupt_x86_hardirq(env, vector, 1). The first is what is not to be.
_INJECTS = re.compile(rb"([\x41\x44\x45]?\x89" + _MEMORY + rb")"
                      rb"(?:\x41?\xc7" + _MEMORY + rb"\0{4}|[\x48\x49]\xc7" + _MEMORY + rb"\xff{4}){2}"
                      rb".{0,40}?\xba\x01\0{3}.{0,8}?\xe8", re.DOTALL)
_NOTHING = {6: b"\x66\x0f\x1f\x44\0\0", 7: b"\x0f\x1f\x80\0\0\0\0"}  # one instruction of so many bytes


def _mend(program):
    """The program's bytes with that instruction taken out; None: it is not there, or not for certain."""
    found = list(_INJECTS.finditer(program))
    if len(found) != 1:
        return None
    begin, end = found[0].span(1)
    return program[:begin] + _NOTHING[end - begin] + program[end:]


def _make(path, copy):
    """The copy; an empty file where none can be made."""
    with packages.locked(copy + ".lock"):
        if os.path.exists(copy):
            return
        with open(path, "rb") as file:
            program = _mend(file.read())
        if program is None:
            ui.say("%s is not one whose AMD-V is known: guests may hang now and then (tools/bed/mended.py)" % path)
        packages.write_whole(copy, program or b"", 0o755)
        # Of what this host had before; a machine that runs it goes on.
        for old in glob.glob(glob.escape(copy.rpartition(".mended-")[0]) + ".mended-*"):
            if not old.startswith(copy):
                with contextlib.suppress(OSError):
                    os.unlink(old)


def command(path, folder, triplet):
    """Words that run the QEMU at `path`: a Debian package's by its copy, kept in `folder`; else, or where that fails, itself."""
    about = os.stat(path)
    copy = os.path.join(folder, "%s.mended-%x-%x-%x" % (
        os.path.basename(path), about.st_size, about.st_mtime_ns, zlib.crc32(_INJECTS.pattern)))
    modules = "/usr/lib/%s/qemu" % triplet
    if os.path.dirname(os.path.realpath(path)) != "/usr/bin" or not os.path.isdir(modules):
        return [path]
    try:
        if not os.path.exists(copy):
            _make(path, copy)
    except OSError as error:
        ui.say("%s: %s: guests may hang now and then (tools/bed/mended.py)" % (copy, error.strerror))
        return [path]
    if os.path.getsize(copy) == 0 or not os.access(copy, os.X_OK):
        return [path]
    # Its modules and ROMs are found beside the program, if not told.
    return ["env", "QEMU_MODULE_DIR=" + modules, copy,
            *(word for place in ("qemu", "seabios") for word in ("-L", "/usr/share/" + place))]
