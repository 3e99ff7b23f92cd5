# SPDX-License-Identifier: BSD-2-Clause
"""`reboot -f` restarts the guest in place, three times, then it powers off; with --no-reboot it ends trapline."""

ALSO = {"arm64": ("in-place-2cpu",)}
CASES = {"in-place": {"options": (), "cpus": 1}, "in-place-2cpu": {"options": (), "cpus": 2},
         "packaged": {"options": (), "cpus": 1, "image": "packaged"},
         "no-reboot": {"options": ("--no-reboot",), "cpus": 1}}
TIMEOUT = 180
SECONDS = 40


def test(t, options, cpus, image="vmlinux"):
    guest = t.boot("fact cpus $(nproc)\nfact up\nread answer\n[ $answer = again ] && reboot -f\n", cpus=cpus,
                   image=image, options=options)
    pid = None
    for boot in range(4):
        guest.fact("up", 90, again=True)
        t.equal("trapline's process after %d resets" % boot, guest.pid(), pid or guest.pid())
        pid = guest.pid()
        if options:
            guest.send("again\n")
            guest.ends(16)
            return
        if boot == 1:
            first = guest.memory()
        guest.send("again\n" if boot < 3 else "off\n")
    t.equal("processors after the last reset", guest.log().count("@cpus %d" % cpus), 4)
    guest.ends(0)
    t.note("4 boots, resident %.0f MiB in the second" % first)
