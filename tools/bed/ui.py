# SPDX-License-Identifier: BSD-2-Clause
"""What the tools print: stages with elapsed seconds, colours on a terminal only, one-line errors."""

import os
import signal
import sys
import threading
import time


class Failure(Exception):
    """Something the user has to know, in one line: what it is about and what to do."""


def on_terminal(stream=sys.stdout):
    return stream.isatty() and os.environ.get("TERM", "dumb") != "dumb"


def _paint(code, text, stream=sys.stdout):
    if not on_terminal(stream) or os.environ.get("NO_COLOR"):
        return text
    return "\033[%sm%s\033[0m" % (code, text)


def green(text):
    return _paint("32", text)


def red(text):
    return _paint("31", text)


def yellow(text):
    return _paint("33", text)


def bold(text):
    return _paint("1", text)


def dim(text):
    return _paint("2", text)


class Stage:
    """One step of work, as a context manager.

    On a terminal the line is redrawn with the seconds so far; elsewhere it is printed once, at the end, after a
    first line when the step takes more than two seconds.
    """

    QUIET_SECONDS = 2
    _open = []  # innermost last: only that one draws

    def __init__(self, text, show=True):
        self.text = text
        self.detail = ""
        self.show = show
        self.seconds = 0.0
        self._done = threading.Event()
        self._thread = None

    def __enter__(self):
        self._begin = time.monotonic()
        if self.show:
            Stage._open.append(self)
            self._thread = threading.Thread(target=self._tick, daemon=True)
            self._thread.start()
        return self

    def elapsed(self):
        return time.monotonic() - self._begin

    def _tick(self):
        tty = on_terminal()
        first = True
        while not self._done.wait(0.1 if tty else self.QUIET_SECONDS):
            if Stage._open[-1:] != [self]:
                continue
            try:
                if tty:
                    sys.stdout.write("\r\033[K%s %s" % (dim("%6.1f s" % self.elapsed()), self.text))
                elif first:
                    sys.stdout.write("%s ...\n" % self.text)
                    first = False
                sys.stdout.flush()
            except BrokenPipeError:
                return

    def finish(self, good=True):
        """Ends the stage and prints its line; a second call does nothing."""
        if self._done.is_set():
            return
        self._done.set()
        self.seconds = self.elapsed()
        if not self.show:
            return
        self._thread.join()
        Stage._open.remove(self)
        clear = "\r\033[K" if on_terminal() else ""
        mark = "" if good else red(" failed")
        detail = dim("  " + self.detail) if self.detail else ""
        sys.stdout.write("%s%s %s%s%s\n" % (clear, dim("%6.1f s" % self.seconds), self.text, mark, detail))
        sys.stdout.flush()

    def __exit__(self, kind, value, trace):
        self.finish(good=kind is None)
        return False


def say(text=""):
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def complain(text):
    sys.stdout.flush()
    sys.stderr.write("%s %s\n" % (_paint("31", "error:", sys.stderr), text))


def main(function):
    """Runs a tool's main: a Failure is one line and status 1, Ctrl-C is status 130 with no traceback.

    Being ended by a signal unwinds as well, so that terminals are restored and machines end.
    """
    def unwind(number, _frame):
        sys.exit(128 + number)

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, unwind)
    try:
        sys.exit(function())
    except Failure as failure:
        complain(str(failure))
        sys.exit(1)
    except KeyboardInterrupt:
        sys.stderr.write("\ninterrupted\n")
        sys.exit(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
