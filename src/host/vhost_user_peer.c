/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * vhost_user_peer.c - what the program at the other end is asked and told; see vhost_user.h.
 *
 * The "user addresses" of the protocol are only names for places in the memory table. Ours are guest-physical addresses
 * with a constant added, so that nobody learns where in this process things lie.
 */
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "host/vhost_user_inner.h"

#define USER_BASE (1ULL << 46)

#define F_IN_ORDER 35

#define PROTOCOL_FEATURES                                                                                              \
	(BIT(VU_P_MQ) | BIT(VU_P_REPLY_ACK) | BIT(VU_P_BACKEND_REQ) | BIT(VU_P_CONFIG) | BIT(VU_P_INFLIGHT) |          \
		BIT(VU_P_RESET_DEVICE))

/* Bits 24 to 41 and VU_F_PROTOCOL are not the device's own (6); these of them need nothing of us. */
#define RING_FEATURES                                                                                                  \
	(BIT(VIRTIO_F_ANY_LAYOUT) | BIT(VIRTIO_RING_F_INDIRECT_DESC) | BIT(VIRTIO_RING_F_EVENT_IDX) |                  \
		BIT(VIRTIO_F_VERSION_1) | BIT(VIRTIO_F_RING_PACKED) | BIT(F_IN_ORDER))
#define DEVICE_FEATURES (~0ULL << 50 | (BIT(24) - 1))
/*
 * Where a packed ring stood, and how far one in order had come, only the program
 * knew that is gone; nor are they relayed.
 */
#define LASTING_FEATURES (~(BIT(VIRTIO_F_RING_PACKED) | BIT(F_IN_ORDER)))

/* ---- what it is ---- */

int vu_read_space(struct vhost_user *u, uint8_t *bytes, unsigned len, unsigned *got_len)
{
	struct vu_config c = { .size = len };
	uint32_t got;
	int r = vu_get(&u->conn, VU_GET_CONFIG, &c, 12 + len, sizeof(c), &got, NULL);

	if (r)
		return r;
	*got_len = 0;
	/* No bytes: that is how it says that it has not so many. */
	if (got == 0 || (got == 12 && !c.size))
		return 0;
	if (got != 12 + len || c.size != len || c.offset)
		return -EPROTO;
	memcpy(bytes, c.bytes, len);
	*got_len = len;
	return 0;
}

static int greet_protocol(struct vhost_user *u)
{
	uint64_t number;
	int r = vu_get_number(&u->conn, VU_GET_PROTOCOL_FEATURES, &u->protocol);

	u->protocol &= PROTOCOL_FEATURES;
	/* Its own requests are about its config space. */
	if (!vu_has(u, VU_P_CONFIG))
		u->protocol &= ~BIT(VU_P_BACKEND_REQ);
	if (r == 0)
		r = vu_set_number(&u->conn, VU_SET_PROTOCOL_FEATURES, u->protocol);
	u->conn.ack = vu_has(u, VU_P_REPLY_ACK);
	if (r == 0 && vu_has(u, VU_P_MQ)) {
		r = vu_get_number(&u->conn, VU_GET_QUEUE_NUM, &number);
		u->queues = number < VHOST_USER_QUEUES ? (unsigned)number : VHOST_USER_QUEUES;
	}
	if (r == 0 && vu_has(u, VU_P_BACKEND_REQ))
		r = vu_open_channel(&u->conn);
	return r;
}

/* From the connection's begin to where the device is known. */
int vu_greet(struct vhost_user *u)
{
	int r;

	u->protocol = 0;
	u->queues = 0;
	r = vu_get_number(&u->conn, VU_GET_FEATURES, &u->features);
	if (r == 0)
		r = vu_set(&u->conn, VU_SET_OWNER, NULL, 0, NULL, 0);
	if (r == 0 && u->features >> VU_F_PROTOCOL & 1)
		r = greet_protocol(u);
	return r;
}

/* What of its features can be had. */
uint64_t vu_usable(const struct vhost_user *u)
{
	uint64_t features = u->features & (RING_FEATURES | DEVICE_FEATURES);

	return u->config.reconnect || u->config.account ? features & LASTING_FEATURES : features;
}

/* ---- what it is told ---- */

#define RELAY_MEMORY ((size_t)VHOST_USER_QUEUES * RELAY_BYTES)

void vu_drop_relay_memory(struct vhost_user *u)
{
	if (!u->relay_memory)
		return;
	munmap(u->relay_memory, RELAY_MEMORY);
	close(u->relay_fd);
	u->relay_memory = NULL;
	u->relay_fd = -1;
}

/* What an earlier connection had stays with it: it may be stalled, not dead. */
static int new_relay_memory(struct vhost_user *u)
{
	void *memory;
	int fd, r;

	vu_drop_relay_memory(u);
	fd = memfd_create("vhost-user rings", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd < 0)
		return -errno;
	memory = MAP_FAILED;
	if (ftruncate(fd, (off_t)RELAY_MEMORY) == 0 &&
		fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) == 0)
		memory = mmap(NULL, RELAY_MEMORY, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (memory == MAP_FAILED) {
		r = -errno;
		close(fd);
		return r;
	}
	u->relay_fd = fd;
	u->relay_memory = memory;
	return 0;
}

static uint64_t relay_gpa(const struct vhost_user *u)
{
	uint64_t end = 0;

	for (unsigned i = 0; i < u->map.n; i++)
		if (u->map.range[i].gpa + u->map.range[i].len > end)
			end = u->map.range[i].gpa + u->map.range[i].len;
	/* Well away from all that is the guest's. */
	return (end + (2ULL << 20)) & ~((1ULL << 20) - 1);
}

static int share_memory(struct vhost_user *u)
{
	struct vu_memory table = { 0 };
	int fds[VU_REGIONS], r = u->relays ? new_relay_memory(u) : 0;

	if (r)
		return r;
	for (unsigned i = 0; i < u->map.n; i++) {
		const struct vhost_range *range = &u->map.range[i];

		if (range->fd < 0)
			continue;
		if (table.n + u->relays == VU_REGIONS)
			return -E2BIG;
		fds[table.n] = range->fd;
		table.region[table.n].gpa = range->gpa;
		table.region[table.n].size = range->len;
		table.region[table.n].user = USER_BASE + range->gpa;
		table.region[table.n++].offset = range->offset;
	}
	if (u->relays) {
		fds[table.n] = u->relay_fd;
		table.region[table.n].gpa = relay_gpa(u);
		table.region[table.n].size = RELAY_MEMORY;
		table.region[table.n].user = USER_BASE + relay_gpa(u);
		table.n++;
	}
	return vu_set(&u->conn, VU_SET_MEM_TABLE, &table,
		(uint32_t)(offsetof(struct vu_memory, region) + table.n * sizeof(table.region[0])), fds, table.n);
}

void vu_drop_account(struct vhost_user *u)
{
	if (u->account >= 0)
		close(u->account);
	u->account = -1;
}

/* The account of an earlier connection goes to the next; without one it gives us a new one. */
static int share_account(struct vhost_user *u)
{
	uint32_t got;
	int r;

	if (!u->config.reconnect || !vu_has(u, VU_P_INFLIGHT))
		return 0;
	if (u->account < 0) {
		struct vu_inflight at = { .queues = (uint16_t)(u->queues ? u->queues : VHOST_USER_QUEUES),
			.queue_size = RELAY_SIZE };

		r = vu_get(&u->conn, VU_GET_INFLIGHT_FD, &at, sizeof(at), sizeof(at), &got, &u->account);
		if (r == 0 && (got < VU_INFLIGHT_SIZE || u->account < 0 || !at.size))
			r = -EPROTO;
		if (r) {
			/* What was no account is not handed to the next connection as one. */
			vu_drop_account(u);
			return r;
		}
		u->account_at = at;
	}
	return vu_set(&u->conn, VU_SET_INFLIGHT_FD, &u->account_at, sizeof(u->account_at), &u->account, 1);
}

int vu_share(struct vhost_user *u)
{
	uint64_t features = u->wanted;
	int r;

	if (u->features >> VU_F_PROTOCOL & 1)
		features |= BIT(VU_F_PROTOCOL);
	if (u->config.modern)
		features |= u->features & BIT(VIRTIO_F_VERSION_1);
	/* The relay's wishes to be told are flags. */
	if (u->relays)
		features &= ~BIT(VIRTIO_RING_F_EVENT_IDX);
	r = vu_set_number(&u->conn, VU_SET_FEATURES, features);
	if (r == 0)
		r = share_memory(u);
	return r ? r : share_account(u);
}

static bool is_packed(const struct vhost_user *u)
{
	return u->wanted >> VIRTIO_F_RING_PACKED & 1;
}

/* As the protocol has it: a split ring's next entry, or a packed one's slots and wrap counters. */
static uint32_t base_of(const struct vhost_user *u, const struct vhost_ring *ring)
{
	if (!is_packed(u))
		return ring->avail;
	return ring->avail | (uint32_t)ring->avail_wrap << 15 | (uint32_t)ring->used << 16 |
	       (uint32_t)ring->used_wrap << 31;
}

/* The used index of a split ring, as the driver sees it. */
static uint16_t used_index(const struct vhost_parts *parts)
{
	const struct vring_used *used = parts->device;

	return le16toh(__atomic_load_n(&used->idx, __ATOMIC_ACQUIRE));
}

/* The eventfds come last but one: with the kick the program may begin. */
static int start_ring(struct vhost_user *u, unsigned index, const struct vhost_ring *at, struct vu_ring_addr *addr)
{
	int r = vu_set_ring(&u->conn, VU_SET_VRING_NUM, index, at->size);

	if (r == 0)
		r = vu_set_ring(&u->conn, VU_SET_VRING_BASE, index, base_of(u, at));
	if (r == 0)
		r = vu_set(&u->conn, VU_SET_VRING_ADDR, addr, sizeof(*addr), NULL, 0);
	if (r == 0)
		r = vu_set_ring_fd(&u->conn, VU_SET_VRING_CALL, index, at->call);
	if (r == 0 && at->error >= 0)
		r = vu_set_ring_fd(&u->conn, VU_SET_VRING_ERR, index, at->error);
	if (r == 0)
		r = vu_set_ring_fd(&u->conn, VU_SET_VRING_KICK, index, at->kick);
	if (r == 0 && u->features >> VU_F_PROTOCOL & 1)
		r = vu_set_ring(&u->conn, VU_SET_VRING_ENABLE, index, 1);
	return r;
}

int vu_share_ring(struct vhost_user *u, struct vu_ring *ring)
{
	struct vhost_ring at = ring->ring;
	struct vu_ring_addr addr = { .index = ring->index,
		.desc = USER_BASE + at.desc,
		.avail = USER_BASE + at.driver,
		.used = USER_BASE + at.device };
	struct vhost_parts parts;

	if (u->relays) {
		addr.avail = USER_BASE + relay_gpa(u) + ring->index * RELAY_BYTES;
		addr.used = addr.avail + RELAY_USED;
		at.avail = 0;
		at.kick = ring->relay.kick;
		at.call = ring->relay.call;
		relay_restart(&ring->relay, u->relay_memory + ring->index * RELAY_BYTES);
	} else if (u->again && vhost_map_ring(&u->map, &at, false, &parts) == 0) {
		/* What it had taken beyond that is in the account. */
		at.avail = used_index(&parts);
	}
	return start_ring(u, ring->index, &at, &addr);
}

/*
 * An answer to GET_VRING_BASE means that no more is taken. Not every program waits with it until what it had taken is
 * given back, so we do; `parts` are those of a split ring. The driver can write there, too. -EINVAL: it did, for this
 * is where no program can have come. Between that and the base it cannot be told from a program that is slow: such a
 * one would write to the guest's memory in its next life, and is taken for lost.
 */
static int wait_for_used(const struct vhost_user *u, const struct vhost_parts *parts, uint16_t base, unsigned size)
{
	const struct timespec pause = { .tv_nsec = 1000000 };
	int64_t end = vu_until(&u->conn);
	uint16_t left;

	while ((left = (uint16_t)(base - used_index(parts)))) {
		if (left > size)
			return -EINVAL;
		if (vu_now_ms() >= end)
			return -ETIMEDOUT;
		nanosleep(&pause, NULL);
	}
	return 0;
}

static int get_base(struct vhost_user *u, unsigned index, uint32_t *base)
{
	struct vu_ring_state state = { .index = index };
	uint32_t got;
	int r = vu_get(&u->conn, VU_GET_VRING_BASE, &state, sizeof(state), sizeof(state), &got, NULL);

	if (r == 0 && (got != sizeof(state) || state.index != index))
		r = -EPROTO;
	*base = state.num;
	return r;
}

/* All that it has comes back first. */
static int drain_relay(struct vhost_user *u, struct vhost_relay *relay)
{
	int64_t end = vu_until(&u->conn);

	for (;;) {
		struct pollfd fds[] = { { .fd = relay->call, .events = POLLIN }, { .fd = u->conn.fd } };
		int r = relay_give(relay);
		int64_t left = end - vu_now_ms();
		uint64_t n;

		if (r || !relay->outstanding)
			return r;
		if (left <= 0)
			return -ETIMEDOUT;
		if (poll(fds, 2, (int)left) > 0 && fds[1].revents)
			return -ECONNRESET;
		(void)!read(relay->call, &n, sizeof(n));
	}
}

int vu_take_ring(struct vhost_user *u, struct vu_ring *ring)
{
	struct vhost_ring *at = &ring->ring;
	struct vhost_parts parts;
	uint32_t base;
	int r = u->relays ? drain_relay(u, &ring->relay) : 0;

	if (r == 0)
		r = get_base(u, ring->index, &base);
	if (r)
		return r;
	if (u->relays) {
		at->avail = ring->relay.taken;
		at->used = ring->relay.given;
		return 0;
	}
	if (is_packed(u)) {
		at->avail = base & 0x7fff;
		at->avail_wrap = base >> 15 & 1;
		at->used = base >> 16 & 0x7fff;
		at->used_wrap = base >> 31;
		return 0;
	}
	r = vhost_map_ring(&u->map, at, false, &parts);
	if (r)
		return r;
	at->avail = at->used = (uint16_t)base;
	return wait_for_used(u, &parts, (uint16_t)base, at->size);
}
