# SPDX-License-Identifier: BSD-2-Clause
"""a stock kernel's boot: seconds from exec to its init, exits to user space, beside QEMU's machines

All monitors boot one stock kernel with one initial RAM disk under one KVM, that of an inner machine whose clock counts
instructions (tools/bed): a second there is 10^9 instructions of the inner kernel, the monitor and the guest, and runs
are equal to the digit. docs/benchmarks.md explains the figures.
"""

import collections
import json
import os
import re
import shlex
import subprocess
import sys

from bed import initramfs, packages, ui

import boot_machines
import inner
from boot_machines import MIB, QEMU

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import smaps  # noqa: E402

KERNEL, INITRD = "/bench/kernel", "/bench/initrd"
COLD, WARM = "/tmp/cold", "/tmp/warm"
PATIENCE = 80  # seconds of processor time in which an inner machine has to say something; a boot takes up to 40
LOGS = collections.OrderedDict((("quiet", "quiet"), ("full", "")))

TRACING = "/sys/kernel/tracing"
REASONS = {0: "unknown", 2: "ports", 5: "halt", 6: "memory", 8: "shutdown", 10: "interrupted", 24: "system event"}


class Plan:
    """What one inner machine boots: once while exits are counted, which also warms what can be warm, and once for its time.

    Each has a machine of its own, for now and then one gets nowhere (see Runner.run), the sooner the more it has to do.
    """

    def __init__(self, monitor, row, log, command):
        self.monitor = monitor
        self.key = (row, log)
        self.command = command
        self.name = "-".join((monitor, row, log))


def our_defaults(bench, machines, kernel):
    """The words that trapline puts on a command line by itself; what QEMU's guests get for them."""
    if machines.shared:
        return machines.shared
    run = subprocess.run([bench.program("trapline"), "run", "--dry-run", "--json", "-k", kernel], text=True,
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    if run.returncode != 0:
        raise ui.Failure("trapline run --dry-run: %s" % run.stderr.strip())
    return json.loads(run.stdout)["cmdline"]


def plans(machines, defaults, monitors):
    made = []
    for monitor in monitors:
        for row in machines.rows_of(monitor):
            for log, word in LOGS.items():
                words = " ".join(text for text in (machines.common, word) if text)
                if monitor == "trapline":
                    command = ["trapline", "run", "-k", KERNEL, "-i", INITRD, "-m", str(MIB), "-p", words]
                    command += ["--no-default-params"] if row == "identical" else []
                else:
                    words = defaults + " " + words if row == "shared" else words
                    command = [os.path.basename(machines.qemu), *QEMU, *machines.peers[monitor], "-kernel", KERNEL,
                               "-initrd", INITRD, "-append", words]
                made.append(Plan(monitor, row, log, command))
    return made


def fill_cache(command):
    """Lines that boot a kernel once until it is in the cache; a kernel that has only just changed is never kept."""
    return ["export XDG_CACHE_HOME=%s; mkdir %s; sleep 3" % (WARM, WARM), "echo; echo @fill",
            " ".join(shlex.quote(word) for word in command) + " </dev/null",
            "ls %s/trapline/kernels/*.kernel || { echo '@unfilled'; poweroff -f; }" % WARM]


def script(machines, plan, attempt):
    """What the inner machine runs. A further attempt begins a little later."""
    lines = ["usleep %d" % (700 * attempt)] if attempt else []
    if plan.key[0] == "warm":
        lines += fill_cache(plan.command)
    lines += ["mount -t debugfs debugfs /sys/kernel/debug", "mount -t tracefs tracefs %s 2>/dev/null" % TRACING,
              "hist() {"]
    for event, keys in machines.histograms:
        lines.append("echo \"$1hist:keys=%s:size=16384\" >%s/events/kvm/%s/trigger" % (keys, TRACING, event))
    lines.append("}")
    counters = "".join(" -c %s/events/kvm/%s/hist" % (TRACING, event) for event, _ in machines.histograms)
    counters += "".join(" -c /sys/kernel/debug/kvm/" + name for name in machines.sums)
    cache = ("export XDG_CACHE_HOME=" + WARM if plan.key[0] == "warm" else
             "rm -rf %s; mkdir %s; export XDG_CACHE_HOME=%s" % (COLD, COLD, COLD))
    words = " ".join(shlex.quote(word) for word in plan.command)
    stats = " --stats /tmp/stats" if plan.monitor == "trapline" else ""
    lines += [cache, "echo; echo @count; hist ''", "stopwatch -m%s %s%s </dev/null" % (counters, words, stats), "hist '!'",
              "[ ! -e /tmp/stats ] || sed 's/^/@stats /' /tmp/stats",
              cache, "echo @time", "stopwatch %s </dev/null" % words, "echo @done"]
    return "\n".join(lines) + "\n"


def files_for(bench, machines, plan, initrd, kernel):
    """What the inner machine holds: kernel, initial RAM disk, the monitor with its libraries, the stopwatch."""
    files = [(KERNEL, kernel), (INITRD, initrd)]
    programs = inner.with_libraries(bench, "/bin/stopwatch", bench.program("tests", "bench", "boot_stopwatch"))
    more, extra = inner.monitor(bench, plan.monitor == "trapline", machines)
    programs += more
    files += extra
    return files + list(dict(programs).items())


def make_initrd(bench, cache, folder):
    archive = initramfs.Archive()
    archive.copy("init", bench.program("tests", "bench", "boot_init"))
    path = os.path.join(folder, "initrd")
    with open(path, "wb") as file:
        file.write(initramfs.base(cache.busybox()) + archive.bytes())
    return path


# What came out


def owner(table, address):
    for first, size, name in table:
        if first <= address < first + size:
            return name
    return None


def within(places, address):
    return any(first <= address < first + size for first, size in places)


def posted_ports(stats):
    """(first, how many) of each place whose writes KVM queues for trapline; for QEMU that is not known."""
    return [(region["base"], region["posts"]) for region in (stats or {"regions": []})["regions"]
            if region["posts"] and region["space"] == "pio"]


class Counts:
    """Exits to user space of one boot, up to init (`when` at-mark) or to the end, as the kernel's histograms tell."""

    def __init__(self, machines):
        self.machines = machines
        self.reasons = collections.Counter()
        self.devices = collections.Counter()
        self.total = 0

    def add(self, line, posted):
        """One line of a histogram; writes to the places `posted` are queued by the kernel and do not exit."""
        keys = dict(re.findall(r"(\w+):\s*(-?\w+)", line))
        hits = int(keys["hitcount"])
        if "reason" in keys:
            self.total += hits
            errno = int(keys["errno"]) - (1 << 32 if int(keys["errno"]) >= 1 << 31 else 0)
            reason = REASONS.get(int(keys["reason"]), "reason " + keys["reason"]) if errno >= 0 else "interrupted"
            self.reasons[reason] += hits
        elif "port" in keys:
            port = int(keys["port"], 0)
            if not within(self.machines.kernel_ports, port) and not (int(keys["rw"]) and within(posted, port)):
                self.devices[owner(self.machines.ports, port) or "port %#x" % (port & ~7)] += hits
        elif "gpa" in keys:
            gpa = int(keys["gpa"], 0)
            # 1 is a read's answer, whose question (0) was counted, or had its answer in the kernel.
            if not within(self.machines.kernel_memory, gpa) and int(keys["type"]) != 1:
                self.devices[owner(self.machines.memory, gpa) or "memory %#x" % (gpa & ~0xfff)] += hits


def parse(machines, plan, text):
    """{"seconds", "init": Counts, "end": Counts, "stats"} from what the inner machine printed."""
    result, kind = {"init": Counts(machines), "end": Counts(machines), "kvm": {}, "stats": "", "smaps": ""}, None
    counts = []  # which writes are posted is known when the boot has ended
    if "\n@unfilled" in text:
        raise ui.Failure("a boot of the kernel did not leave it in trapline's cache")
    if "\n@done" not in text:
        raise ui.Failure("%s: the inner machine did not finish; its last words: %s"
                         % (plan.name, " | ".join(text.strip().splitlines()[-3:])))
    for line in text.splitlines():
        word, _, rest = line.partition(" ")
        if word in ("@time", "@count"):
            kind = word
        elif word == "@mark" and kind == "@time":
            result["seconds"] = int(rest.split()[0]) / 1e9
            result["bytes"] = int(rest.split()[1])
        elif word == "@end" and kind == "@time":
            result["ended"] = rest
        elif word in ("@at-mark", "@at-end") and "hitcount" in rest:
            counts.append((result["init" if word == "@at-mark" else "end"], rest))
        elif word == "@at-mark":
            name, value = rest.split()
            result["kvm"][name] = int(value)
        elif word == "@smaps":
            result["smaps"] += rest + "\n"
        elif word == "@stats":
            result["stats"] += rest
    if "seconds" not in result:
        raise ui.Failure("%s: the guest never reached its init; see the inner machine's log" % plan.name)
    result["stats"] = json.loads(result["stats"]) if result["stats"] else None
    result["memory"] = smaps.beyond(smaps.parse(result["smaps"]), MIB)
    for count, line in counts:
        count.add(line, posted_ports(result["stats"]))
    return result


# What is told


def as_json(results):
    """The figures alone, in the order of the table."""
    out = {}
    for monitor, rows in results.items():
        out[monitor] = {"%s-%s" % key: {
            "seconds": result["seconds"],
            "exits": result["init"].total,
            "reasons": dict(result["init"].reasons.most_common()),
            "devices": dict(result["init"].devices.most_common()),
            "kvm": result["kvm"],
            "kib": result["memory"],
            "stats": result["stats"],
        } for key, result in rows.items()}
    return out


def cell(result):
    return "%.6f / %s" % (result["seconds"], "{:,}".format(result["init"].total)) if result else ""


def print_memory(bench, results):
    """KiB beyond the guest's RAM at its init, quiet."""
    rows = [[kind] + [boots["identical", "quiet"]["memory"][kind] for boots in results.values()]
            for kind in ("resident", "anonymous", "private")]
    ui.say()
    bench.table("KiB beyond guest RAM", ("KiB", *results), rows)


def print_table(bench, machines, results):
    rows = [["%s, %s" % (text, log)] + [cell(boots.get((row, log))) for boots in results.values()]
            for row, text in machines.rows.items() for log in LOGS]
    bench.table("seconds to init / exits to user space", ("seconds / exits", *results), rows)


def print_devices(bench, results):
    """Who the exits went to where all have trapline's defaults."""
    for log in LOGS:
        columns = [boots["defaults" if monitor == "trapline" else "shared", log]["init"].devices
                   for monitor, boots in results.items()]
        most = collections.Counter({name: max(devices[name] for devices in columns)
                                    for name in set().union(*columns)})
        ui.say()
        bench.table("exits by device, " + log, ("exits, %s" % log, *results),
                    [[name] + [devices[name] for devices in columns] for name, _ in most.most_common(16)])


def accounted(results):
    """Each exit of ours has an owner: trapline's own sum against KVM's count, for each boot. A list of what differs."""
    wrong = []
    for (row, log), result in results.get("trapline", {}).items():
        stats = result["stats"]
        owned = (sum(owner["reads"] + owner["writes"] for owner in stats["regions"] + [stats["gone"], stats["unclaimed"]])
                 - stats["split"] - stats["posted"] + sum(stats["other"].values()))
        if sum(result["init"].devices.values()) != result["init"].total:
            wrong.append("%s, %s: of %d exits until init, %d were seen at a device" % (
                row, log, result["init"].total, sum(result["init"].devices.values())))
        if not owned == stats["exits"] == result["end"].total:
            wrong.append("%s, %s: trapline accounts for %d of its %d exits, KVM counted %d"
                         % (row, log, owned, stats["exits"], result["end"].total))
    return wrong


def judge_x86(bench, results):
    """The targets, against the row in which all have our defaults."""
    ours = {log: results["trapline"]["defaults", log] for log in LOGS}
    warm = results["trapline"]["warm", "quiet"]["seconds"]
    pc = {log: results["qemu-pc"]["shared", log] for log in LOGS}
    bench.target("quiet, warm, of QEMU pc's seconds", warm / pc["quiet"]["seconds"], 0.70)
    bench.target("quiet, cold, of QEMU pc's seconds", ours["quiet"]["seconds"] / pc["quiet"]["seconds"], 0.70)
    bench.target("quiet, cold", ours["quiet"]["seconds"], 0.587, "s")
    bench.target("full log, of QEMU pc's seconds", ours["full"]["seconds"] / pc["full"]["seconds"], 0.60)
    bench.target("quiet, exits to user space", ours["quiet"]["init"].total, 1000)


def judge_ahead(bench, machines, results):
    """Ahead of the other in each figure, identical command lines."""
    for log in LOGS:
        ours, other = (results[name]["identical", log] for name in ("trapline", machines.rival))
        bench.target("%s, of %s's seconds" % (log, machines.rival), ours["seconds"] / other["seconds"], 1)
        bench.target("%s, of its exits to user space" % log, ours["init"].total / other["init"].total, 1)
        for kind in ("resident", "private"):
            bench.target("%s, of its KiB %s" % (log, kind), ours["memory"][kind] / other["memory"][kind], 1)


def measure(bench, monitors, again):
    """What each monitor's boots gave, and what is wrong with it."""
    machines = boot_machines.find(bench.arch)
    cache = packages.Cache(bench.arch)
    folder = os.path.join(bench.build, "bench", "boot")
    os.makedirs(folder, exist_ok=True)
    kernel = cache.kernel("cloud")
    made = plans(machines, our_defaults(bench, machines, kernel.image), monitors)
    initrd = make_initrd(bench, cache, folder)
    work = [inner.Work(plan.name, lambda attempt, plan=plan: script(machines, plan, attempt),
                       files_for(bench, machines, plan, initrd, kernel.image), 2, ("@done", "@unfilled")) for plan in made]
    work += [item._replace(name=item.name + "-again") for plan, item in zip(made, work)
             if again and plan.monitor == "trapline"]
    # The longest first.
    runner = inner.Runner(cache, folder, "boots", PATIENCE)
    texts = runner.go(sorted(work, key=lambda item: not item.name.startswith("qemu-microvm")))

    def parsed(monitor, suffix=""):
        return {plan.key: parse(machines, plan, texts[plan.name + suffix]) for plan in made if plan.monitor == monitor}

    results = {monitor: parsed(monitor) for monitor in monitors}
    trouble = accounted(results)
    if again and as_json({"": parsed("trapline", "-again")}) != as_json({"": results["trapline"]}):
        trouble.append("the same boots, run twice, differ")
    bench.data.update(kernel=kernel.package, mib=MIB, common=machines.common, monitors=as_json(results), trouble=trouble,
                      stuck=runner.stuck)
    return results, trouble


def run(bench):
    machines = boot_machines.find(bench.arch)
    inner.need_qemu(bench, machines.qemu)
    results, trouble = measure(bench, machines.monitors, True)
    print_table(bench, machines, results)
    print_memory(bench, results)
    print_devices(bench, results)
    ui.say()
    bench.target("boots that differ when repeated, or whose exits are not all accounted for", len(trouble), 0)
    for line in trouble:
        bench.note(line)
    for line in bench.data["stuck"]:
        bench.note(line)
    if bench.arch.name == "x86_64":
        judge_x86(bench, results)
    else:
        judge_ahead(bench, machines, results)
