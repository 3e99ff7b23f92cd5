# SPDX-License-Identifier: BSD-2-Clause
"""What the user gets to see who has asked for something that cannot be."""


def refuse(result, status, *words):
    """One line on stderr that holds every word, nothing on stdout, the status. The line."""
    assert result.returncode == status, f"status {result.returncode}, not {status}: {result.stderr!r}"
    assert result.stdout == "", f"stdout: {result.stdout!r}"
    lines = result.stderr.splitlines()
    assert len(lines) == 1, f"{len(lines)} lines: {result.stderr!r}"
    for word in words:
        assert word in lines[0], f"no {word!r} in {lines[0]!r}"
    return lines[0]
