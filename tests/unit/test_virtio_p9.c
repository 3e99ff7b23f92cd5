/* SPDX-License-Identifier: BSD-2-Clause */
/* test_virtio_p9.c - the 9P transport under drivers that make rings up, whose messages are at times ones. */
#include "virtio_hostile.h"

#include <ftw.h>
#include <stdio.h>

#include "host/p9/inner.h"
#include "virtio/p9.h"

/* A version, an attach, and then anything, with a size that is nearly right. */
static void request(struct hostile *h, unsigned queue, uint8_t *bytes, size_t n)
{
	static const uint8_t version[] = "\25\0\0\0d\1\0\0\40\0\0\10\0009P2000.L";
	static const uint8_t attach[] = "\27\0\0\0h\1\0\0\0\0\0\377\377\377\377\0\0\0\0\377\377\377\377";
	const uint8_t *known = hostile_some(h, 2) ? version : attach;
	size_t len = known == version ? sizeof(version) - 1 : sizeof(attach) - 1;

	for (size_t i = 0; i < n; i++)
		bytes[i] = hostile_some(h, 3) ? 0 : (uint8_t)hostile_some(h, 256);
	if (hostile_some(h, 2)) {
		memcpy(bytes, known, n < len ? n : len);
	} else if (n > P9_HEADER) {
		bytes[0] = (uint8_t)n;
		bytes[1] = (uint8_t)(n >> 8);
		bytes[2] = bytes[3] = 0;
		bytes[4] = (uint8_t)(hostile_some(h, 62) * 2);
	}
}

static int forget(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
	return remove(path);
}

static void hostile(void **state)
{
	char top[] = "/tmp/trapline-virtio-p9-XXXXXX";
	struct virtio_p9_options options = { .folder = { .path = mkdtemp(top) }, .tag = "share" };

	assert_non_null(options.folder.path);
	assert_int_equal(virtio_hostile(&virtio_p9_type, &options, 1000, 1, request), 0);
	assert_int_equal(nftw(top, forget, 8, FTW_DEPTH | FTW_PHYS), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(hostile) };

	unit_bound(150);
	return cmocka_run_group_tests(tests, unit_adopt, unit_release);
}
