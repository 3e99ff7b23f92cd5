# SPDX-License-Identifier: BSD-2-Clause
"""Unit tests that ask a /dev/kvm, under the true one; on a host without one they would only be skipped."""

import os
import re

CASES = {"boot-state": {"program": "test_boot_state"}}
KERNELS = ()


def test(t, program):
    path = os.path.join(t.build, "tests", "unit", program)
    t.check(os.path.exists(path), "%s is not there; 'make build' makes it" % path)
    t.inner.install(path, "/tmp/" + program)
    output = t.sh("/tmp/%s" % program, 100, status=None)
    passed = re.findall(r"^\[ +OK +\] (\S+)", output, re.M)
    t.check(passed and "FAILED" not in output and "SKIPPED" not in output, output)
    t.note("%d tests" % len(passed))
