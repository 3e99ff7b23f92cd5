#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""The lab: stock Debian kernels under trapline, under real KVM, inside an emulated machine; on any host.

Tests are the files in tests/lab/ARCH/; docs/testing.md shows how to write one. Inner machines, one a processor, take
tests from one queue, the longest first.
"""

import argparse
import fnmatch
import glob
import importlib.util
import inspect
import json
import os
import queue
import shutil
import sys
import threading
import time
import traceback

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "..", "tools"))
sys.path.insert(0, HERE)
from bed import arch as arches  # noqa: E402
from bed import initramfs, machine, packages, ui  # noqa: E402
import program  # noqa: E402
import testing  # noqa: E402

DEFAULT_TIMEOUT = 120
DEFAULT_SECONDS = 15
TAIL_LINES = 15

# Drivers that tests ask for by modules="drivers".
DRIVERS = ("virtio_pci", "virtio_mmio", "virtio_blk", "virtio_net", "virtio_console", "virtio_rng", "virtio_balloon", "button", "evdev", "gpio_keys",
           "psmouse", "pvpanic", "pvpanic_mmio", "nvram", "uio_pci_generic", "9p", "9pnet_virtio", "virtiofs",
           "vmw_vsock_virtio_transport", "virtio_scsi", "sd_mod")


class Case:
    """One named test: a test file's function with one set of arguments."""

    def __init__(self, module, name, arguments):
        self.name = name
        self.function = module.test
        self.arguments = arguments
        self.timeout = getattr(module, "TIMEOUT", DEFAULT_TIMEOUT)
        self.seconds = getattr(module, "SECONDS", DEFAULT_SECONDS)
        self.about = (module.__doc__ or "").strip().splitlines()[0] if module.__doc__ else ""
        # Which kernels to place in the inner machine: by the arguments, and by the file's KERNELS.
        self.kernels = set(getattr(module, "KERNELS", ()))
        if not hasattr(module, "KERNELS"):
            self.kernels.add((arguments.get("kernel", "cloud"), arguments.get("image", "vmlinux")))
        self.bed = arguments.get("bed", "")
        self.build = getattr(module, "build", None)
        # Run only when named: all cases of the file, or those with these suffixes.
        asked = getattr(module, "ON_REQUEST", ())
        self.on_request = asked is True or name.rsplit("-", 1)[-1] in asked
        # How many processors the inner machine needs for this; 0: as many as --inner-cpus says.
        self.inner_cpus = getattr(module, "INNER_CPUS", 0)


def load_file(path, arch):
    """The tests of one file for an architecture, by name: those of its own folder, and those that say ALSO."""
    file = os.path.basename(path)
    stem = os.path.splitext(file)[0]
    spec = importlib.util.spec_from_file_location("lab_" + stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if not hasattr(module, "test"):
        raise ui.Failure("%s: has no function test(t)" % file)
    own = os.path.basename(os.path.dirname(path)) == arch
    also = getattr(module, "ALSO", {})
    if not own and arch not in also:
        return {}
    stem = stem.replace("_", "-")
    cases = {}
    for suffix, arguments in getattr(module, "CASES", {"": {}}).items():
        name = "%s-%s" % (stem, suffix) if suffix else stem
        cases[name] = Case(module, name, arguments)
        # Elsewhere than where a test is at home, only some of its cases run unasked.
        if not own and suffix not in also[arch]:
            cases[name].on_request = True
    return cases


def load(folder, arch):
    """All tests for an architecture: of its folder, and of others' what is the same there."""
    cases = {}
    for path in sorted(glob.glob(os.path.join(folder, "*", "*.py")), key=os.path.basename):
        if not os.path.basename(path).startswith("_"):
            cases.update(load_file(path, arch))
    return cases


def select(cases, patterns):
    chosen = {}
    for pattern in patterns:
        names = [name for name in cases if fnmatch.fnmatchcase(name, pattern)]
        if not names:
            names = [name for name in cases if name.startswith(pattern + "-")]
        if not names:
            raise ui.Failure("no test is called '%s'; there are: %s" % (pattern, ", ".join(cases)))
        chosen.update((name, cases[name]) for name in names)
    if chosen:
        return chosen
    return {name: case for name, case in cases.items() if not case.on_request}


class Board:
    """Shows results as they come, and on a terminal a last line with what runs."""

    def __init__(self, total, width):
        self.lock = threading.Lock()
        self.total = total
        self.done = 0
        self.width = width
        self.running = {}
        self.begin = time.monotonic()
        self.live = ui.on_terminal()
        self.stop = threading.Event()
        if self.live:
            threading.Thread(target=self._tick, daemon=True).start()

    def _clear(self):
        if self.live:
            sys.stdout.write("\r\033[K")

    def _status(self):
        if not self.live or self.stop.is_set():
            return
        now = time.monotonic()
        names = ", ".join("%s %d s" % (name, now - begin) for name, begin in self.running.items())
        text = "%d/%d  %s" % (self.done, self.total, names)
        sys.stdout.write("\r\033[K" + ui.dim(text[:shutil.get_terminal_size().columns - 1]))
        sys.stdout.flush()

    def _tick(self):
        while not self.stop.wait(0.5):
            with self.lock:
                self._status()

    def begins(self, name):
        with self.lock:
            self.running[name] = time.monotonic()
            self._status()

    def ends(self, name, text):
        with self.lock:
            self.running.pop(name, None)
            self.done += 1
            self._clear()
            sys.stdout.write(text + "\n")
            sys.stdout.flush()
            self._status()

    def say(self, text):
        with self.lock:
            self._clear()
            sys.stdout.write(text + "\n")
            sys.stdout.flush()

    def close(self):
        self.stop.set()
        with self.lock:
            self._clear()
            sys.stdout.flush()


class Lab:
    def __init__(self, args, arch, cases):
        self.args = args
        self.arch = arch
        self.cases = cases
        self.folder = os.path.join(args.build, "lab", arch.name)
        os.makedirs(self.folder, exist_ok=True)
        self.program = os.path.join(args.build, "trapline")
        self.results = {}
        self.times = self._load_times()
        self.halt = threading.Event()
        self.machines = set()
        self.failure = None

    def _times_path(self):
        return os.path.join(self.folder, "times.json")

    def _load_times(self):
        try:
            with open(self._times_path()) as file:
                return json.load(file)
        except (OSError, ValueError):
            return {}

    def prepare(self):
        """What every inner machine gets: kernels, pieces of initramfs, what test files build."""
        cache = packages.Cache(self.arch)
        self.cache = cache
        # Before the first test: to fail to fetch one ends the lab.
        for bed in sorted({case.bed for case in self.cases.values()}):
            machine.Machine(self.arch, "", cache, bed=bed).fetch()
        files, self.kernel_paths = [], {}
        for flavour, image in sorted({kernel for case in self.cases.values() for kernel in case.kernels}):
            kernel = cache.kernel(flavour)
            with ui.Stage("unpack %s" % kernel.package) if image == "vmlinux" and not os.path.exists(
                    os.path.join(kernel.folder, "vmlinux")) else ui.Stage("", show=False):
                source = kernel.vmlinux if image == "vmlinux" else kernel.image
            path = "/lab/%s.%s" % (flavour, image)
            files.append((path, source))
            self.kernel_paths[flavour, image] = path
        self.bases = {}
        for flavour in sorted({"cloud"} | {flavour for flavour, _ in self.kernel_paths}):
            name = "base" if cache.of(flavour) is cache else "base.%s" % cache.of(flavour).arch.name
            if "/lab/" + name not in self.bases.values():
                base = os.path.join(self.folder, name)
                with open(base, "wb") as file:
                    file.write(initramfs.base(cache.of(flavour).busybox()))
                files.append(("/lab/" + name, base))
            self.bases[flavour] = "/lab/" + name
        for flavour in sorted({flavour for flavour, _ in self.kernel_paths}):
            modules = initramfs.Modules(cache.kernel(flavour))
            path = os.path.join(self.folder, "modules." + flavour)
            with open(path, "wb") as file:
                file.write(modules.piece(modules.known(DRIVERS)))
            files.append(("/lab/modules." + flavour, path))
        for builder in {case.build for case in self.cases.values() if case.build}:
            files += builder(self.args.build)
        with open(os.path.join(HERE, "guest-init")) as file:
            self.pieces = {"guest-init": file.read(), "bases": self.bases}
        self.files = files

    def cpus(self, case):
        return case.inner_cpus or self.args.inner_cpus

    def boot(self, number, cpus, bed):
        inner = machine.Machine(self.arch, os.path.join(self.folder, "inner%d.log" % number), self.cache,
                                memory=self.args.memory, cpus=cpus, bed=bed)
        inner.prepare(self.files)
        self.machines.add(inner)
        if self.halt.is_set():
            raise machine.Lost("stopped")
        inner.start()
        inner.install(self.program, "/bin/trapline")
        return inner

    def worker(self, number, work, board):
        inner = None
        try:
            while not self.halt.is_set():
                try:
                    case = work.get_nowait()
                except queue.Empty:
                    break
                if inner and (inner.cpus, inner.bed) != (self.cpus(case), case.bed):
                    inner.stop()
                    inner = None
                if inner is None or not inner.alive():
                    inner = self.boot(number, self.cpus(case), case.bed)
                board.begins(case.name)
                if not self.run(case, inner, board):
                    inner.stop()
                    self.machines.discard(inner)
                    inner = None
        except ui.Failure as failure:
            self.failure = failure
            self.halt.set()
        except machine.Lost as lost:
            if not self.halt.is_set():
                self.failure = ui.Failure(str(lost))
                self.halt.set()
        finally:
            if inner:
                inner.stop()

    def run(self, case, inner, board):
        """Runs one test; False when the inner machine is of no more use."""
        begin = time.monotonic()
        log, log_begin = inner.pipes["log"], len(inner.pipes["log"].data)
        test = testing.Test(case.name, inner, self.kernel_paths, self.pieces, case.timeout,
                            self.args.build, self.args.verbose)
        verdict, reason, usable = "passed", "", True
        try:
            arguments = case.arguments
            if len(inspect.signature(case.function).parameters) == 1:
                arguments = {}
            case.function(test, **arguments)
        except testing.Failed as failed:
            verdict, reason = "failed", str(failed)
        except testing.Skipped as skipped:
            verdict, reason = "skipped", str(skipped)
        except machine.Lost as lost:
            verdict, reason, usable = "failed", str(lost), False
        except ui.Failure as failure:
            verdict, reason = "failed", str(failure)
        except Exception:  # an error in the test itself
            verdict, reason = "failed", traceback.format_exc().strip()
        seconds = time.monotonic() - begin
        if self.halt.is_set():
            return False
        if usable:
            try:
                test.clean_up()
            except machine.Lost:
                usable = False
        for image in test.images:
            os.unlink(image)
        if inner.pipes["log"] is not log:
            log_begin = 0
        inner_log = bytes(inner.pipes["log"].data[log_begin:]).decode(errors="replace").replace("\r", "")
        trouble = [line for line in inner_log.splitlines() if "BUG:" in line or "Oops" in line or "Call Trace" in line]
        if verdict == "passed" and trouble:
            verdict, reason = "failed", "the inner kernel complains: " + trouble[0]
        # Its disks were this test's; and one that failed leaves things behind on which others would stumble.
        usable = usable and not inner.drives and verdict != "failed"
        path = os.path.join(self.folder, case.name + ".log")
        if verdict == "failed" or self.args.keep_logs:
            with open(path, "w") as file:
                file.write("%s: %s\n%s\n\n%s\n---- inner machine ----\n%s" % (
                    case.name, verdict, reason, test.log(), inner_log))
        elif os.path.exists(path):
            os.unlink(path)
        self.results[case.name] = {"verdict": verdict, "seconds": round(seconds, 1), "reason": reason,
                                   "figures": test.figures if test else {}}
        if verdict == "passed":
            self.times[case.name] = round(seconds, 1)
        board.ends(case.name, self._line(board, case, verdict, seconds, reason, test, path))
        return usable

    def _line(self, board, case, verdict, seconds, reason, test, path):
        word = {"passed": ui.green("ok  "), "failed": ui.red("FAIL"), "skipped": ui.yellow("skip")}[verdict]
        text = "%s %6.1f s  %-*s  %s" % (word, seconds, board.width, case.name,
                                         ui.dim(reason if verdict == "skipped" else ", ".join(test.notes)))
        if verdict == "failed":
            text = text.rstrip() + "\n       %s" % "\n       ".join(reason.splitlines())
            lines = [line for line in (test.guests[-1].log() if test.guests else "").splitlines() if line.strip()]
            for line in lines[-TAIL_LINES:]:
                text += "\n       " + ui.dim("| " + line[:160])
            text += "\n       log: %s" % os.path.relpath(path)
        return text.rstrip()

    def go(self):
        # By inner machines first, so that they are replaced once.
        order = sorted(self.cases.values(),
                       key=lambda case: (-self.cpus(case), case.bed, -self.times.get(case.name, case.seconds)))
        work = queue.Queue()
        for case in order:
            work.put(case)
        jobs = max(1, min(self.args.jobs or os.cpu_count() or 1, len(order)))
        begin = time.monotonic()
        self.prepare()
        board = Board(len(order), max(len(name) for name in self.cases))
        workers = [threading.Thread(target=self.worker, args=(number, work, board)) for number in range(jobs)]
        try:
            for worker in workers:
                worker.start()
            for worker in workers:
                while worker.is_alive():
                    worker.join(0.2)
        finally:
            self.halt.set()
            board.close()
            for inner in list(self.machines):
                inner.stop()
        if self.failure:
            raise self.failure
        with open(self._times_path(), "w") as file:
            json.dump(self.times, file, indent=1, sort_keys=True)
        count = {verdict: sum(result["verdict"] == verdict for result in self.results.values())
                 for verdict in ("passed", "failed", "skipped")}
        if self.args.results:
            with open(self.args.results, "w") as file:
                json.dump({"count": count, "tests": self.results}, file, indent=1)
        ui.say("%d passed, %d failed, %d skipped  %s" % (
            count["passed"], count["failed"], count["skipped"], ui.dim("(%d s)" % (time.monotonic() - begin))))
        return 1 if count["failed"] or sum(count.values()) != len(order) else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tests", nargs="*", metavar="TEST", help="names or globs; all when none is given")
    parser.add_argument("--arch", default="x86_64", help="the inner machine's architecture")
    parser.add_argument("--build", default=os.path.join(packages.top(), "build"), help="where trapline was built")
    parser.add_argument("--jobs", type=int, help="inner machines at a time (default: one a processor)")
    parser.add_argument("--inner-cpus", type=int, default=1, help="processors of each inner machine")
    parser.add_argument("--memory", type=int, default=2048, help="MiB of each inner machine")
    parser.add_argument("--list", action="store_true", help="list the tests and stop")
    parser.add_argument("--keep-logs", action="store_true", help="keep the log of every test, not of failures only")
    parser.add_argument("--verbose", action="store_true", help="guests show their kernel's whole log")
    parser.add_argument("--results", metavar="FILE", help="write results as JSON")
    args = parser.parse_args()
    arch = program.arch = arches.find(args.arch)
    cases = select(load(HERE, arch.name), args.tests)
    lab = Lab(args, arch, cases)
    if args.list:
        width = max(len(name) for name in cases)
        for name, case in cases.items():
            ui.say("%-*s  %5.1f s  %s" % (width, name, lab.times.get(name, case.seconds), case.about))
        return 0
    if not os.access(lab.program, os.X_OK):
        raise ui.Failure("%s is not there; 'make build' makes it" % lab.program)
    return lab.go()


ui.main(main)
