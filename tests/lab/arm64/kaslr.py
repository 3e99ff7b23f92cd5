# SPDX-License-Identifier: BSD-2-Clause
"""A stock kernel's place follows from --kaslr-seed, again after a reset and in another run; without it, it is a new one each time."""

CASES = {"given": {"seeds": ("0x5eed0001", "0x5eed0001", "0xabcdef0123456789")}, "random": {"seeds": (None,)}}
KERNELS = [("cloud", "packaged")]
TIMEOUT = 300

SCRIPT = "fact text $(grep -w _stext /proc/kallsyms)\nread answer\n[ $answer = again ] && reboot -f\n"


def places(t, seed):
    """Where the kernel is at two starts of one run, and the device tree's properties."""
    guest = t.boot(SCRIPT, image="packaged", options=("--dump-dtb", "/tmp/tree", *(("--kaslr-seed", seed) if seed else ())))
    found = [guest.fact("text", 120).split()[0]]
    # Two random places may be the same, once in thousands of times: one more try settles that.
    while len(found) < (2 if seed else 4) and len(set(found)) == 1:
        guest.send("again\n")
        found.append(guest.fact("text", 120, again=True).split()[0])
    guest.send("off\n")
    guest.ends(0)
    t.check(int(found[0], 16) != 0, "the guest hides its addresses")
    return found


def test(t, seeds):
    found = [places(t, seed) for seed in seeds]
    t.equal("an rng-seed in the device tree", int(t.sh("grep -c rng-seed /tmp/tree || true")), 0 if seeds[0] else 1)
    t.note(", ".join("%s: %s" % (seed, " then ".join(places)) for seed, places in zip(seeds, found)))
    if not seeds[0]:
        t.check(len(set(found[0])) > 1, "the kernel is always at %s" % found[0][0])
        return
    for seed, places_of_one in zip(seeds, found):
        t.equal("places by %s" % seed, len(set(places_of_one)), 1)
    t.equal("by the same seed", found[1], found[0])
    t.check(found[2] != found[0], "another seed, the same place: %s" % found[0][0])
    words = [places_of_dry_run(t, seed) for seed in (seeds[0], seeds[0], None, None)]
    t.equal("two device trees by the same seed", words[1], words[0])
    t.check(words[2] != words[3], "two device trees without a seed are the same")


def places_of_dry_run(t, seed):
    command = " ".join(t.command(image="packaged", initrd=None, quiet=False)[:-2])
    t.sh("%s --dry-run --dump-dtb /tmp/dry %s" % (command, "--kaslr-seed " + seed if seed else ""))
    return t.sh("md5sum </tmp/dry")
