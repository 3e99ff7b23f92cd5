#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# run.sh TRAPLINE [DIR | ELF] - runs each flat guest DIR/*.elf, or this one; one line each; status 0 if all pass,
# 77 if there is none, if all find nothing to tell, or without a usable /dev/kvm to run them on.
# GUEST_PRELOAD: a library that watches what trapline asks of KVM.
trapline=${1:?usage: run.sh TRAPLINE [DIR | ELF]}
dir=${2:-.}
[ -r /dev/kvm ] && [ -w /dev/kvm ] || { echo "no usable /dev/kvm: the lab runs these guests"; exit 77; }
log=$(mktemp) || exit 1
trap 'rm -f "$log"' EXIT
failed=0 ran=0 skipped=0

[ -d "$dir" ] && set -- "$dir"/*.elf || set -- "$dir"
for elf; do
	[ -e "$elf" ] || continue
	name=$(basename "$elf" .elf)
	ran=$((ran + 1))
	# The guests that need more than the standard machine.
	case $name in bar* | irqfd* | msix* | reset*) more=--pci-test ;; *) more= ;; esac
	case $name in many) cpus=260 ;; *) cpus=2 ;; esac
	# shellcheck disable=SC2086
	timeout "${GUEST_TIMEOUT:-60}" env ${GUEST_PRELOAD:+LD_PRELOAD="$GUEST_PRELOAD"} "$trapline" run -k "$elf" -m 128 -c "$cpus" $more </dev/null >"$log" 2>&1
	status=$?
	why=
	if [ $status -eq 124 ]; then
		why="no end within ${GUEST_TIMEOUT:-60} s"
	elif [ $status -ne 0 ]; then
		why="status $status"
	elif grep -q '^FAIL' "$log"; then
		why="$(grep -c '^FAIL' "$log") checks failed"
	elif ! grep -q '^ok' "$log"; then
		why="it said nothing"
	fi
	if [ -z "$why" ] && grep -q '^skip' "$log"; then
		skipped=$((skipped + 1))
		echo "SKIP $name: $(sed -n 's/^skip //p' "$log")"
	elif [ -z "$why" ]; then
		echo "PASS $name ($(grep -c '^ok' "$log") checks)"
	else
		failed=$((failed + 1))
		echo "FAIL $name: $why"
		grep -v '^ok' "$log" | head -20 | sed 's/^/    /'
	fi
done
[ $ran -gt 0 ] || { echo "no guest in $dir"; exit 77; }
[ $skipped -lt $ran ] || exit 77
[ $failed -eq 0 ]
