# SPDX-License-Identifier: BSD-2-Clause
"""A stock kernel that has to live on the PIT gets its interrupt at the IOAPIC's input that the MADT tells."""

GUEST = """
fact timer $(cat /sys/devices/system/clockevents/clockevent0/current_device)
fact before $(sed -n 's/^ *0: *\\([0-9]*\\) .*IO-APIC.*timer/\\1/p' /proc/interrupts)
sleep 1
fact after $(sed -n 's/^ *0: *\\([0-9]*\\) .*IO-APIC.*timer/\\1/p' /proc/interrupts)
"""


def test(t):
    guest = t.boot(GUEST, append="lapic=notscdeadline nolapic_timer")
    t.equal("the kernel's timer", guest.fact("timer"), "pit")
    ticks = int(guest.fact("after")) - int(guest.fact("before"))
    # 250 a second, or one where the kernel sleeps in between.
    t.check(ticks > 0, "no interrupt of the timer's in a second")
    t.note("%d interrupts" % ticks)
    guest.ends(0)
