#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# build.sh OUT - builds every flat guest beside this script into OUT/*.elf; CC chooses the compiler.
out=${1:?usage: build.sh OUT}
here=$(dirname "$0")
mkdir -p "$out" || exit 1
flags="-std=gnu17 -O2 -Wall -Wextra -Werror -m64 -ffreestanding -nostdlib -static -fno-pic
	-mno-red-zone -mgeneral-regs-only -fno-stack-protector -fcf-protection=none -fno-asynchronous-unwind-tables
	-Wl,-T,$here/guest.lds -Wl,--build-id=none -Wl,-z,noexecstack -Wl,-z,max-page-size=4096 -Wl,--no-warn-rwx-segments"

for source in "$here"/*.c; do
	name=$(basename "$source" .c)
	# shellcheck disable=SC2086
	${CC:-gcc} $flags "$here/start.S" "$source" -o "$out/$name.elf" || exit 1
done
# The way in differs, what is found there must not.
for name in mode smp; do
	# shellcheck disable=SC2086
	${CC:-gcc} $flags -DPVH "$here/start.S" "$here/$name.c" -o "$out/$name-pvh.elf" || exit 1
done
