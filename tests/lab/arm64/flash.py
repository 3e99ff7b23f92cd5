# SPDX-License-Identifier: BSD-2-Clause
"""--flash: a guest finds, erases and programs two CFI chips side by side; the next guest, and the host, find what it wrote; reads do not exit."""

import json

import program

TIMEOUT = 300
SECONDS = 20
SIZE, BLOCK = 1 << 20, 64 << 10
PROGRAM = {}

SCRIPT = """
fact tree $(tr '\\0' ' ' </sys/firmware/devicetree/base/flash@2000000/compatible)
read go
""" + program.RUN


def build(folder):
    PROGRAM["prog"] = program.build(folder, __file__, "aarch64-linux-gnu-gcc")
    return []


def test(t):
    t.sh("yes abcdefg | head -c %d >/tmp/flash" % SIZE)
    for life in ("write", "check"):
        guest = t.boot(SCRIPT % life, options=("--flash", "/tmp/flash", "--stats", "/tmp/stats"), files=PROGRAM.items())
        t.equal("the node", guest.fact("tree", 120).strip(), "cfi-flash")
        if life == "write":
            # It is the running guest's alone.
            t.check("another guest has it" in t.sh("trapline run --dry-run -k %s --flash /tmp/flash 2>&1" % t.kernel(), status=3),
                    "a second guest was not told of the first")
        guest.send("\n")
        program.judge(t, guest)
        guest.ends(0)
    # Nothing but the block that it erased has changed.
    t.sh("yes abcdefg | head -c %d >/tmp/was\n"
         "for file in was flash; do (dd bs=%d count=3; dd bs=%d skip=1) </tmp/$file >/tmp/$file.rest 2>/dev/null; done\n"
         "cmp /tmp/was.rest /tmp/flash.rest && [ $(stat -c %%s /tmp/was.rest) = %d ] && ! cmp -s /tmp/was /tmp/flash" %
         (SIZE, BLOCK, BLOCK, SIZE - BLOCK))
    flash = [region for region in json.loads(t.sh("cat /tmp/stats"))["regions"] if region["device"] == "flash"][0]
    t.check(flash["reads"] < 100, "%d reads exited: the array is no memory" % flash["reads"])
    t.note("%d reads and %d writes exited in the second life" % (flash["reads"], flash["writes"]))
