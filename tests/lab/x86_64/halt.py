# SPDX-License-Identifier: BSD-2-Clause
"""
A guest that halts: trapline idles below 1 % of a processor, Ctrl-A x ends it and the terminal is as before. An arm64 kernel spins
when it has halted, so there it is one that has nothing to do, and below 5 %.
"""

ALSO = {"arm64": ("",)}
SECONDS = 20
WATCH = 6


def uptime(t):
    """By the clock that processor time is told in, too."""
    return float(t.sh("cat /proc/uptime").split()[0])


def test(t):
    tty = t.inner.arch.guest_tty
    # Something other than the defaults, so that restoring and resetting differ.
    t.sh("stty -F /dev/%s sane -echoctl rows 33" % tty)
    before = t.sh("stty -F /dev/%s -g" % tty)
    guest = t.boot("halt -f\n" if t.arch == "x86_64" else "sleep 1000000\n")
    guest.fact("init", 90)
    if t.arch == "x86_64":
        guest.expect("System halted", 30)
    t.check(t.sh("stty -F /dev/%s -g" % tty) != before, "trapline did not put its terminal into raw mode")
    t.sh("sleep 2")  # what the halt itself costs is not idling
    begin, used = uptime(t), guest.cpu_seconds()
    t.sh("sleep %d" % WATCH)
    load = (guest.cpu_seconds() - used) / (uptime(t) - begin) * 100
    t.sh("for task in /proc/%d/task/*; do cut -d' ' -f2,14,15 $task/stat; grep ctxt $task/status; done" % guest.pid())
    t.note("idles at %.1f %%" % load)
    # Who has nothing to do still wakes up now and then, which takes longer on a busy host.
    t.check(load < (1 if t.arch == "x86_64" else 5), "trapline uses %.1f %% of a processor for a halted guest" % load)
    t.check(guest.running(), "trapline ended by itself")
    guest.send(b"\x01x")
    guest.ends(20, 10)
    t.equal("the terminal's settings afterwards", t.sh("stty -F /dev/%s -g" % tty).strip(), before.strip())
