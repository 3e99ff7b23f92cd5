# SPDX-License-Identifier: BSD-2-Clause
"""With --boot bzimage64 or bzimage32 a stock kernel places itself at random, at each of two boots; by PVH it does not."""

CASES = {"bzimage64": {"way": "bzimage64"}, "bzimage32": {"way": "bzimage32"}, "pvh": {"way": "pvh"}}
KERNELS = [("cloud", "packaged")]
SECONDS = 12


def test(t, way):
    # A reset is a boot as well. Of 500 places two may be the same: one more try settles that, but for one in 250,000.
    guest = t.boot("fact text $(grep -w _text /proc/kallsyms)\nread answer\n[ $answer = again ] && reboot -f\n",
                   image="packaged", options=("--boot", way))
    places = [guest.fact("text", 90).split()[0]]
    while len(places) < (2 if way == "pvh" else 3) and len(set(places)) == 1:
        guest.send("again\n")
        places.append(guest.fact("text", 90, again=True).split()[0])
    guest.send("off\n")
    guest.ends(0)
    t.check(int(places[0], 16) != 0, "the guest hides its addresses")
    if way == "pvh":
        t.equal("where the kernel is", set(places), {"ffffffff81000000"})
    else:
        t.check(len(set(places)) > 1, "the kernel is always at %s" % places[0])
    t.note(" then ".join(places))
