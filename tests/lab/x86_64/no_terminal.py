# SPDX-License-Identifier: BSD-2-Clause
"""trapline without a terminal: output into a pipe or file, input from /dev/null, a pipe, or closed."""

ALSO = {"arm64": ("pipe",)}
CASES = {"null": {"stdin": "</dev/null"}, "closed": {"stdin": "<&-"}, "pipe": {"stdin": None},
         "all-closed": {"stdin": "<&-"}}


def test(t, stdin):
    t.initrd("read -r line </dev/console && fact heard $line\n" if stdin is None else "")
    words = " ".join("'%s'" % word for word in t.command())
    if stdin is None:
        script = "(echo a word from the pipe) | timeout 80 setsid %s 2>&1 | cat >/tmp/out" % words
    elif t.name.endswith("all-closed"):
        script = "timeout 80 setsid %s <&- >&- 2>&-" % words
    else:
        script = "timeout 80 setsid %s %s >/tmp/out 2>&1" % (words, stdin)
    t.sh("set -o pipefail\n" + script, 90)
    if t.name.endswith("all-closed"):
        return
    out = t.sh("cat /tmp/out")
    t.check("@init" in out, "the guest's console did not reach the output: %r" % out[-300:])
    if stdin is None:
        t.check("@heard a word from the pipe" in out, "what came by the pipe did not reach the guest: %r" % out[-300:])
