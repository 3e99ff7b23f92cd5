# SPDX-License-Identifier: BSD-2-Clause
"""Inner machines whose clock counts instructions, for benchmarks that compare monitors; and what they are given."""

import collections
import glob
import os
import threading

from bed import cross, machine, ui

TIMEOUT = 1800  # seconds of the host's, for an inner machine with all that it does
ATTEMPTS = 6

FIRMWARE_FOLDERS = ("/usr/share/qemu", "/usr/share/seabios")


def need_qemu(bench, program):
    if not os.path.exists(program):
        raise bench.Skip("no %s; 'tools/deps bench' and, for another architecture, its name bring it" % program)


def firmware(name):
    for folder in FIRMWARE_FOLDERS:
        if os.path.exists(os.path.join(folder, name)):
            return os.path.join(folder, name)
    raise ui.Failure("%s is not in %s; install packages qemu-system-x86 and seabios" % (name, ", ".join(FIRMWARE_FOLDERS)))


def with_libraries(bench, path, program):
    return cross.libraries(bench.arch, None, program) + [(path, program)]


def monitor(bench, ours, machines):
    """Programs with their libraries, and other files, that an inner machine needs for trapline or else for QEMU."""
    if ours:
        return with_libraries(bench, "/bin/trapline", bench.program("trapline")), []
    return (with_libraries(bench, "/bin/" + os.path.basename(machines.qemu), bench.packaged(machines.qemu)),
            [("/usr/share/qemu/" + name, firmware(name)) for name in machines.firmware])


# One inner machine's: script(attempt) is what it runs, files what it holds, steps how many lines "@end" it will say, last the
# lines of which one tells that it is over, well or not.
Work = collections.namedtuple("Work", "name script files steps last")


class Runner:
    """Runs inner machines side by side, one a processor."""

    def __init__(self, cache, folder, what, patience):
        """`what`: the steps that Work counts. `patience`: seconds of processor time in which a machine says something."""
        self.cache, self.folder, self.what, self.patience = cache, folder, what, patience
        self.lock = threading.Lock()
        self.halt = threading.Event()
        self.failure = None
        self.failed = {}  # work's name: why
        self.texts = {}
        self.stuck = []

    def run(self, work):
        """One inner machine's output.

        With a QEMU that bed/mended.py does not know a guest may be given an interrupt twice, and wait for ever.
        As time is exact it is so each time, so another attempt has another time.
        """
        for attempt in range(ATTEMPTS):
            inner = machine.Machine(self.cache.arch, os.path.join(self.folder, work.name + ".log"), self.cache, memory=2048)
            inner.prepare(work.files, work.script(attempt))
            try:
                text = inner.run_alone(TIMEOUT, self.patience, self.halt)
                if any("\n" + line in text for line in work.last):
                    return text
                last = machine.Stuck("the guest ended before its work was done; the last words: %s"
                                     % " | ".join(text.strip().splitlines()[-3:]))
            except machine.Stuck as stuck:
                last = stuck
            with self.lock:
                self.stuck.append("%s, attempt %d: %s" % (work.name, attempt + 1, last))
        raise last

    def worker(self, queue):
        while not self.halt.is_set():
            with self.lock:
                if not queue:
                    return
                work = queue.pop(0)
            try:
                text = self.run(work)
                with self.lock:
                    self.texts[work.name] = text
            except machine.Stuck as failure:
                with self.lock:
                    self.failed[work.name] = failure
            except (ui.Failure, machine.Lost) as failure:
                if not self.halt.is_set():
                    self.failure = ui.Failure("%s: %s" % (work.name, failure))
                self.halt.set()

    def progress(self, total):
        """How many steps are done, from the logs as they grow: each ends with such a line."""
        done = 0
        for path in glob.glob(os.path.join(self.folder, "*.log")):
            with open(path, "rb") as file:
                done += file.read().count(b"\n@end")
        return "%d of %d %s" % (done, total, self.what)

    def go(self, work, partly=False):
        """{work's name: output}; what did not get to its end is in `failed`, and an error unless `partly`."""
        for path in glob.glob(os.path.join(self.folder, "*.log")):
            os.unlink(path)
        total = sum(item.steps for item in work)
        queue = list(work)
        threads = [threading.Thread(target=self.worker, args=(queue,), daemon=True)
                   for _ in range(min(os.cpu_count() or 1, len(work)))]
        with ui.Stage("%s with a clock that counts instructions" % self.what) as stage:
            text = stage.text
            try:
                for thread in threads:
                    thread.start()
                while any(thread.is_alive() for thread in threads):
                    for thread in threads:
                        thread.join(1)
                    stage.text = "%s: %s" % (text, self.progress(total))
            finally:
                self.halt.set()
                for thread in threads:
                    thread.join(10)
        if self.failed and not (partly or self.failure):
            self.failure = ui.Failure("; ".join("%s: %s" % pair for pair in self.failed.items()))
        if self.failure:
            raise self.failure
        return self.texts
