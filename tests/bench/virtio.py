# SPDX-License-Identifier: BSD-2-Clause
"""virtio beside QEMU's: time, exits to user space, interrupts and system calls a request; disk, network, shared folder

All monitors run one stock kernel with one workload (virtio_load.c) under one KVM, that of an inner machine whose clock
counts instructions (tools/bed), as in boot.py. docs/benchmarks.md explains the figures.
"""

import collections
import os
import re
import shlex
import shutil
import statistics

from bed import arch as arches
from bed import initramfs, packages, ui

import boot_machines
import inner

INITRD = "/bench/initrd"
MIB = 512
PATIENCE = 60  # seconds of processor time in which an inner machine has to say something; a tree by 9p takes more than 25
APPEND = "console=ttyS0 quiet cryptomgr.notests nokaslr panic=-1 bench="
# What a guest does in one boot, by the word on its command line: its kernel, as 9p is not in the small one, and how much.
GROUPS = collections.OrderedDict((("disk", ("cloud", 6)), ("qcow2", ("cloud", 6)), ("tap", ("cloud", 12)), ("vhost", ("cloud", 12)), ("user", ("cloud", 12)),
                                  ("9p", ("full", 1)), ("fs", ("cloud", 1))))
DRIVERS = ("virtio_pci", "virtio_mmio", "virtio_blk", "virtio_net", "9p", "9pnet_virtio", "virtiofs")
TAP_MAC, USER_MAC = "52:54:00:00:00:01", "52:54:00:00:00:02"
DISK_MIB = 64
TAP_BYTES, USER_BYTES = 32 << 20, 8 << 20

VIRTIOFSD = "/usr/lib/qemu/virtiofsd"
# For a QCOW2 disk: who serves trapline's (QEMU does that itself), and who makes it.
STORAGE = ("/usr/bin/qemu-storage-daemon", "/usr/bin/qemu-img")

TRACING = "/sys/kernel/tracing"
SUMS = ("exits", "halt_exits", "irq_injections")
HISTOGRAMS = (("kvm/kvm_userspace_exit", "reason"), ("kvm/kvm_pio", "port"), ("kvm/kvm_msi_set_irq", "data"),
              ("kvm/kvm_set_irq", "gsi,level"), ("raw_syscalls/sys_enter", "common_pid.execname,id"))
NOT_MONITORS = ("load", "init", "exe", "cat", "sed", "passt", "passt.avx2", "virtiofsd")  # whose system calls are not the monitor's
SERIAL = range(0x3f8, 0x400)
NOT_VIRTIO = (0, 1, 2, 4, 8, 9, 12)  # lines of the timer, keyboard, serial port, RTC and ACPI

GUEST_INIT = """#!/bin/sh
export PATH=/bin:/sbin HOME=/root
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sys /sys
/bin/busybox mount -t devtmpfs dev /dev
/bin/busybox --install -s /bin
dmesg -n 1
stty -echo -onlcr
for module in %(drivers)s; do modprobe $module 2>/dev/null; done
for link in /sys/class/net/eth*; do
	case $(cat $link/address) in
	%(tap_mac)s) ip addr add 10.9.0.2/24 dev ${link##*/}; ip link set ${link##*/} up;;
	# The MTU is what passt tells by DHCP.
	%(user_mac)s) ip addr add 192.0.2.2/24 dev ${link##*/}; ip link set ${link##*/} mtu 65520 up;;
	esac
done
case $bench in
disk|qcow2) load disk $bench /dev/vda;;
tap|vhost) load net $bench 10.9.0.1 %(tap_bytes)d;;
user) load net user 192.0.2.1 %(user_bytes)d;;
9p) mount -t 9p -o trans=virtio,version=9p2000.L,msize=131072,cache=none share /mnt; load tree 9p-tree /mnt;;
# virtiofsd's table of open files grows first, and waits for its host's clock ticks at each step.
fs) mount -t virtiofs share /mnt; cat /mnt/*/* >/dev/null; load tree fs-tree /mnt;;
esac
printf '\\n@over\\n'
while :; do sleep 60; done
"""

# Passt makes the root of its own mount namespace another one, which the kernel refuses where it is the first of all.
ROOTED = """#!/bin/sh
mount --make-rprivate / && mkdir -p /run/root && mount --rbind / /run/root && cd /run/root && mount --move . / &&
exec chroot . "$@"
"""

# For QEMU; trapline starts its own. Both go on when they are there.
START = {
    "user": "unshare -m /bin/rooted passt -f -q -s /tmp/passt 2>/tmp/passt.log & await /tmp/passt",
    "fs": "mkdir -p /var/run/virtiofsd; unshare -m /bin/rooted %s --socket-path=/tmp/fs -o source=/tmp/tree "
          "-o log_level=err,xattr 2>/tmp/fs.log & await /tmp/fs" % VIRTIOFSD,
}
AWAIT = "await() { until [ -e $1 ]; do usleep 10000; done; }"

# What listens has room for more than its first window of 64 KiB. Where passt fills that before the listener's first
# turn, it tells the guest of a rest too small to send, and of no more when there is: 200 ms pass, with either monitor.
PREPARE = """
echo 4096 1048576 6291456 >/proc/sys/net/ipv4/tcp_rmem
echo nobody:x:65534:65534::/:/bin/false >>/etc/passwd
mount -t debugfs debugfs /sys/kernel/debug
mount -t tracefs tracefs %(tracing)s 2>/dev/null
ip link set lo up
modprobe vhost_net
tunctl -t t0 >/dev/null; ip addr add 10.9.0.1/24 dev t0; ip link set t0 up
tunctl -t up0 >/dev/null; ip addr add 192.0.2.2/24 dev up0; ip link set up0 up; ip route add default via 192.0.2.1 dev up0
dd if=/dev/zero of=/tmp/disk bs=1M count=%(disk)d 2>/dev/null
qemu-img create -q -f qcow2 -o preallocation=full /tmp/disk.qcow2 %(disk)dM
mkdir /tmp/tree; load plant /tmp/tree
load serve &
mkfifo /tmp/in /tmp/out
"""

# The monitor's console is read line by line; what it waits for is a line, too.
WATCH = """
counters() { for name in %(sums)s; do echo "@$1 $name $(cat /sys/kernel/debug/kvm/$name)"; done; }
exec 3>/tmp/in 4</tmp/out
while read -r line <&4; do
	case $line in
	@ready*count) echo "$line"; hist ''; counters before; echo >&3;;
	@done*\\ count\\ *) counters after; hists; hist '!'; echo "$line"; echo @end; echo >&3;;
	@ready*) echo >&3;;
	@done*) echo "$line"; echo >&3;;
	@failed*) echo "$line"; break;;
	@over) echo @finished; break;;
	esac
done
sed 's/^/@err /' /tmp/err
"""

TRAPLINE = "trapline run -i %s -m %d --no-kernel-cache" % (INITRD, MIB)
TRAPLINE_DEVICES = {
    "disk": "-d /tmp/disk",
    "qcow2": "-d /tmp/disk.qcow2",
    "tap": "-n tap,ifname=t0,mac=" + TAP_MAC,
    "vhost": "-n tap,ifname=t0,vhost,mac=" + TAP_MAC,
    "user": "-n user,mac=" + USER_MAC,
    "9p": "--9p /tmp/tree,share",
    "fs": "--fs /tmp/tree,share",
}
QEMU = ("qemu-system-x86_64 -accel kvm -cpu host -m %d -nodefaults -no-user-config -display none -no-reboot "
        "-serial stdio -L /usr/share/qemu -initrd %s" % (MIB, INITRD))
# `@` is what a machine calls a device that its bus carries.
# A thread of its own, and no polling: on the bed's one processor that only takes time from the guest.
QEMU_DISK = ("-object iothread,id=t0,poll-max-ns=0 -drive if=none,id=d0,file=/tmp/%s,format=%s,aio=io_uring "
             "-device virtio-blk-@,drive=d0,iothread=t0")
QEMU_TAP = ("-netdev tap,id=n0,ifname=t0,script=no,downscript=no,vhost=%s -device virtio-net-@,netdev=n0,mac=" + TAP_MAC)
QEMU_DEVICES = {
    "disk": QEMU_DISK % ("disk", "raw"),
    "qcow2": QEMU_DISK % ("disk.qcow2", "qcow2"),
    "tap": QEMU_TAP % "off",
    "vhost": QEMU_TAP % "on",
    "user": "-netdev stream,id=n1,server=off,addr.type=unix,addr.path=/tmp/passt -device virtio-net-@,netdev=n1,mac=" + USER_MAC,
    "9p": "-fsdev local,id=f0,path=/tmp/tree,security_model=none -device virtio-9p-@,fsdev=f0,mount_tag=share",
    "fs": "-object memory-backend-memfd,id=m0,size=%dM,share=on -machine memory-backend=m0 "
          "-chardev socket,id=c0,path=/tmp/fs -device vhost-user-fs-@,chardev=c0,tag=share" % MIB,
}
# Who stands beside whom; a machine's options, and what it calls a device.
PAIRS = (("trapline", "qemu-q35"), ("trapline-mmio", "qemu-microvm"))
OWN = {"trapline": "", "trapline-mmio": "--virtio-transport mmio"}
PEERS = {"qemu-q35": ("-M q35,hpet=off -global virtio-net-pci.romfile=", "pci"),
         "qemu-microvm": ("-M microvm -global virtio-mmio.force-legacy=off", "device")}


def command_of(monitor, group):
    """The words that start it, with the one device that the group needs."""
    kernel, append = kernel_path(GROUPS[group][0]), APPEND + group
    if monitor in OWN:
        words = [TRAPLINE, OWN[monitor], TRAPLINE_DEVICES[group], "-k", kernel]
        return " ".join(words).split() + ["-p", append]
    machine, kind = PEERS[monitor]
    devices = QEMU_DEVICES[group].replace("-@", "-" + kind)
    return " ".join((QEMU, machine, devices, "-kernel", kernel)).split() + ["-append", append]


def script(monitor, group, attempt):
    """What the inner machine runs."""
    lines = ["usleep %d" % (700 * attempt)] if attempt else []
    lines += [PREPARE % {"tracing": TRACING, "disk": DISK_MIB}, "hist() {"]
    for event, keys in HISTOGRAMS:
        lines.append("echo \"$1hist:keys=%s:size=4096\" >%s/events/%s/trigger" % (keys, TRACING, event))
    lines += ["}", "hists() {"]
    for event, _ in HISTOGRAMS:
        few = "[0-9][0-9]" if "sys_enter" in event else ""
        lines.append("sed -n '/^{.*hitcount: *%s/s,^,@hist %s ,p' %s/events/%s/hist" % (
            few, os.path.basename(event), TRACING, event))
    lines += ["}", AWAIT, "" if monitor in OWN else START.get(group, "")]
    command = " ".join(shlex.quote(word) for word in command_of(monitor, group))
    lines += ["unshare -m /bin/rooted %s </tmp/in >/tmp/out 2>/tmp/err &" % command,
              WATCH % {"sums": " ".join(SUMS)}]
    return "\n".join(lines) + "\n"


def kernel_path(flavour):
    return "/bench/kernel-" + flavour


def files_for(bench, folder, name, kernel):
    """What the inner machine holds."""
    load = bench.program("tests", "bench", "virtio_load")
    archive = initramfs.Archive()
    archive.file("init", GUEST_INIT % {"drivers": " ".join(DRIVERS), "tap_mac": TAP_MAC, "user_mac": USER_MAC,
                                       "tap_bytes": TAP_BYTES, "user_bytes": USER_BYTES}, 0o755)
    archive.folder("mnt")
    archive.copy("bin/load", load)
    modules = initramfs.Modules(kernel)
    path = os.path.join(folder, "initrd-" + kernel.flavour)
    with open(path, "wb") as file:
        file.write(initramfs.base(packages.Cache(arches.host()).busybox()) + modules.piece(modules.known(DRIVERS)) +
                   archive.bytes())
    rooted = os.path.join(folder, "rooted")
    with open(rooted, "w") as file:
        file.write(ROOTED)
    programs, extra = inner.monitor(bench, name in OWN, boot_machines.X86)
    programs += inner.with_libraries(bench, "/bin/passt", shutil.which("passt")) + inner.with_libraries(bench, VIRTIOFSD, VIRTIOFSD)
    for program in STORAGE:
        programs += inner.with_libraries(bench, "/bin/" + os.path.basename(program), program)
    programs += [("/bin/load", load), ("/bin/rooted", rooted)]
    return [(kernel_path(kernel.flavour), kernel.vmlinux), (INITRD, path)] + extra + list(dict(programs).items())


class Figures:
    """What one workload came to under one monitor."""

    def __init__(self):
        self.times = []  # nanoseconds, of each time that it was timed
        self.requests = self.bytes = 0
        self.counted = 0  # requests, while the counters below were looked at
        self.sums = collections.Counter()
        self.exits = self.serial = self.interrupts = 0
        self.calls = collections.Counter()

    def hist(self, line):
        """A line of a histogram; system calls that came less than ten times were left out."""
        event, _, rest = line.partition(" ")
        keys = dict(re.findall(r"(\w+):\s*(\S[^,}]*?)\s*(?=[,}]|\s\w+:)", rest))
        hits = int(re.search(r"hitcount:\s*(\d+)", rest).group(1))
        if event == "kvm_userspace_exit":
            self.exits += hits
        elif event == "kvm_pio":
            self.serial += hits if int(keys["port"]) in SERIAL else 0
        elif event == "kvm_msi_set_irq":
            self.interrupts += hits
        elif event == "kvm_set_irq":
            self.interrupts += hits if int(keys["level"]) and int(keys["gsi"]) not in NOT_VIRTIO else 0
        else:
            comm = re.search(r"common_pid: (.*?)\s*\[", rest).group(1).strip()
            self.calls[comm, int(keys["id"])] += hits

    def us_each(self, how=statistics.mean):
        """Microseconds a request, of those times the mean, min or max."""
        return how(self.times) / self.requests / 1e3

    def calls_each(self):
        return sum(n for (comm, _), n in self.calls.items() if comm not in NOT_MONITORS) / self.counted

    def exits_each(self):
        return (self.exits - self.serial) / self.counted

    def interrupts_each(self):
        return self.interrupts / self.counted


def parse(name, text):
    """{workload: Figures} from what the inner machine printed."""
    results, now = collections.OrderedDict(), None
    if "\n@finished" not in text:
        raise ui.Failure("%s: the inner machine did not finish; its last words: %s"
                         % (name, " | ".join(text.strip().splitlines()[-3:])))
    for line in text.splitlines():
        word, _, rest = line.partition(" ")
        if word == "@ready":
            now = results[rest.split()[0]]
        elif word == "@done":
            work, which, requests, size, ns = rest.split()
            figures = results.setdefault(work, Figures())
            if which == "time":
                figures.times.append(int(ns))
                figures.requests, figures.bytes = int(requests), int(size)
            else:
                figures.counted += int(requests)
        elif word in ("@before", "@after"):
            key, value = rest.split()
            now.sums[key] += int(value) if word == "@after" else -int(value)
        elif word == "@hist":
            now.hist(rest)
    return results


def measure(bench, monitors):
    cache = packages.Cache(arches.host())
    folder = os.path.join(bench.build, "bench", "virtio")
    os.makedirs(folder, exist_ok=True)
    kernels = {flavour: cache.kernel(flavour) for flavour, _ in GROUPS.values()}
    work = [inner.Work("%s-%s" % (name, group), lambda attempt, name=name, group=group: script(name, group, attempt),
                       files_for(bench, folder, name, kernels[GROUPS[group][0]]), GROUPS[group][1], ("@finished", "@failed"))
            for group in GROUPS for name in monitors]
    runner = inner.Runner(cache, folder, "workloads", PATIENCE)
    texts = runner.go(work, partly=True)
    results = {name: collections.OrderedDict() for name in monitors}
    for name in monitors:
        for group in GROUPS:
            if "%s-%s" % (name, group) in texts:
                results[name].update(parse("%s-%s" % (name, group), texts["%s-%s" % (name, group)]))
    return results, runner


A_FEW = 0.1  # what counts a request may differ by: some have nothing to do with requests


def judge(bench, results, ours, peer):
    """The worst workload of each target; a disk by another program is shown, but not held to one within the monitor."""
    mine, its = results[ours], results[peer]
    works = [work for work in mine if work in its and not work.startswith("qcow2-")]
    ratio = {work: mine[work].us_each() / its[work].us_each() for work in works}
    worst = max(ratio, key=ratio.get)
    bench.target("%s's time of %s's, the most (%s)" % (ours, peer, worst), ratio[worst], 1)
    for what, count in (("exits to user space", Figures.exits_each), ("interrupts", Figures.interrupts_each)):
        more = {work: count(mine[work]) - count(its[work]) for work in works}
        worst = max(more, key=more.get)
        bench.target("%s: %s a request more than %s's, the most (%s)" % (ours, what, peer, worst), more[worst], A_FEW)


def run(bench):
    inner.need_qemu(bench, boot_machines.X86.qemu)
    for path, package in ((shutil.which("passt"), "passt"), (VIRTIOFSD, "qemu-system-common"),
                          (STORAGE[0], "qemu-system-common"), (STORAGE[1], "qemu-utils")):
        if not path or not os.path.exists(path):
            raise bench.Skip("%s is not installed" % package)
    results, runner = measure(bench, [name for pair in PAIRS for name in pair])
    works = list(dict.fromkeys(work for name in results for work in results[name]))

    def cell(name, work, value):
        return value(results[name][work]) if work in results[name] else "-"

    for key, title, value in (
            ("time", "microseconds a request, the mean", Figures.us_each),
            ("exits", "exits to user space a request", Figures.exits_each),
            ("all exits", "exits of all kinds a request", lambda f: f.sums["exits"] / f.counted),
            ("interrupts", "interrupts a request", Figures.interrupts_each),
            ("calls", "the monitor's system calls a request", Figures.calls_each)):
        bench.table(key, (title, *results), [[work] + [cell(name, work, value) for name in results] for work in works])
        ui.say()
    several = [work for work in works if any(len(results[name][work].times) > 1 for name in results if work in results[name])]
    bench.table("spread", ("microseconds, the least and most", *results), [
        [work] + [cell(name, work, lambda f: "%.1f-%.1f" % (f.us_each(min), f.us_each(max))) for name in results]
        for work in several])
    ui.say()
    for ours, peer in PAIRS:
        judge(bench, results, ours, peer)
    for line in runner.stuck:
        bench.note(line)
    if runner.failed:
        raise ui.Failure("not measured, and held to no target: %s" % ", ".join(runner.failed))
