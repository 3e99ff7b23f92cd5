# SPDX-License-Identifier: BSD-2-Clause
"""Stock kernels have nothing to complain of in the ACPI tables; PM timer and reset register do their work."""

import re

CASES = {"cloud": {"kernel": "cloud"}, "full": {"kernel": "full"}}
TABLES = {"APIC", "DSDT", "FACP", "FACS", "MCFG", "SPCR"}
# ACPICA's and Linux's ways to say that tables are wrong.
COMPLAINT = re.compile(r"ACPI (BIOS )?(Error|Warning|Exception)|[Ff]irmware (Bug|Warn)|FW_BUG|ACPI: .*([Ii]nvalid|[Bb]roken)|"
                       r"ACPI: .*[Ff]ailed|can't evaluate|AE_[A-Z]+")
TIMEOUT = 300

GUEST = """
fact up
facts log <<EOF
$(dmesg)
EOF
ls /sys/firmware/acpi/tables >/tmp/tables
facts tables </tmp/tables
cd /sys/devices/system/clocksource/clocksource0
fact sources $(cat available_clocksource)
echo acpi_pm >current_clocksource
fact source $(cat current_clocksource)
read begin _ </proc/uptime
sleep 2
read end _ </proc/uptime
fact span $begin $end
read answer
[ $answer = again ] && reboot -f
"""


def test(t, kernel):
    guest = t.boot(GUEST, kernel=kernel, append="reboot=acpi")
    guest.fact("up", 90)
    bad = [line for line in guest.facts("log") if COMPLAINT.search(line)]
    t.check(not bad, "the kernel complains:\n" + "\n".join(bad))
    tables = {name for name in guest.facts("tables") if name not in ("data", "dynamic")}
    t.equal("tables", sorted(tables), sorted(TABLES))
    t.check("acpi_pm" in guest.fact("sources").split(), "no acpi_pm among " + guest.fact("sources"))
    t.equal("the clock source", guest.fact("source"), "acpi_pm")
    begin, end = map(float, guest.fact("span").split())
    # How late a sleep ends depends on what else the machine has to do; that it ends, and not too early, does not.
    t.check(end - begin > 1.9, "two seconds by the PM timer are %.2f" % (end - begin))
    guest.send("again\n")
    guest.fact("up", 90, again=True)
    guest.fact("span", 90, again=True)
    guest.send("off\n")
    guest.ends(0)
