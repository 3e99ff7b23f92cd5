/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * vhost_user_program.h - a program that serves virtqueues by the vhost-user protocol: for tests of the other side. It
 * is a thread with mappings of its own, and serves split rings for real.
 *
 * A request is a number, 4 bytes, for the device to read; what it writes is that number plus one. It can be told to
 * keep what it takes, to end with that, and to lie in many ways. Written from the document, not from src/.
 */
#ifndef TRAPLINE_TESTS_VHOST_USER_PROGRAM_H
#define TRAPLINE_TESTS_VHOST_USER_PROGRAM_H

#include "unit.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/vhost_types.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define PROGRAM_QUEUES  4
#define PROGRAM_REGIONS 8
#define PROGRAM_NUMBERS 4096
#define PROGRAM_SPACE   16

enum program_lie {
	LIE_NONE,
	LIE_SHORT,    /* a reply that is too short */
	LIE_LONG,     /* ... too long */
	LIE_HUGE,     /* ... said to have 4 GiB */
	LIE_REQUEST,  /* ... to another request */
	LIE_NO_REPLY, /* ... without the bit that makes it one */
	LIE_VERSION,  /* ... of another version of the protocol */
	LIE_SILENT,   /* none */
	LIE_HALF,     /* half of its header, and no more */
	LIE_HANG_UP,  /* the connection is closed instead */
	LIE_FDS,      /* descriptors that nobody asked for */
	LIE_FAILED,   /* "it has failed" */
	LIE_CHATTER,  /* a reply twice: the second one nobody asked for */
	LIE_CHANNEL,  /* noise on the back end's channel first */
	LIE_FLOOD,    /* requests on it without end, whose answers are not read */
	NR_LIES
};

struct program_ring {
	uint32_t num, base;
	struct vhost_vring_addr addr;
	int kick, call;
	bool on, enabled;
	uint16_t taken, used;
	uint32_t held[1024]; /* heads that were taken and not given back */
	unsigned nr_held;
	uint64_t counter; /* of the account */
};

/* The account of split rings: "DescStateSplit" and "QueueRegionSplit" of the document. */
struct account_desc {
	uint8_t inflight, padding[5];
	uint16_t next;
	uint64_t counter;
};
struct account_ring {
	uint64_t features;
	uint16_t version, desc_num, last_batch_head, used_idx;
	struct account_desc desc[];
};

struct program {
	char path[64];
	int listener, wake;
	pthread_t thread;
	/* told before it starts */
	uint64_t features, protocol;
	enum program_lie lie;
	uint32_t lie_at;   /* request */
	bool ignores_base; /* begins each ring at 0, whatever it is told */
	bool bad_id;       /* gives back what it does not have */
	uint8_t space[PROGRAM_SPACE];
	unsigned space_len;
	/* at any time */
	atomic_bool quit, hold, backward;        /* backward: the newest of a batch first */
	atomic_uint gives;                       /* so many of those held, at the next poke */
	atomic_bool says_changed, says_nonsense; /* at the next poke */
	atomic_uint slow_ms;                     /* before each reply */
	atomic_uint taken, connections;
	atomic_uint done[PROGRAM_NUMBERS]; /* how often a number was answered */
	atomic_uint config_writes;
	/* of the connection */
	int conn, channel;
	uint64_t acked, acked_protocol;
	struct {
		uint64_t gpa, size, user;
		uint8_t *map;
		size_t map_size;
	} region[PROGRAM_REGIONS];
	unsigned nr_regions;
	struct program_ring ring[PROGRAM_QUEUES];
	uint8_t *account;
	size_t account_size;
	unsigned account_ring_size;
};

/* As it is on the wire. */
struct program_msg {
	uint32_t request, flags, size;
	union {
		uint8_t bytes[512];
		uint64_t u64;
		struct vhost_vring_state state;
		struct vhost_vring_addr addr;
		struct {
			uint32_t n, padding;
			struct {
				uint64_t gpa, size, user, offset;
			} region[PROGRAM_REGIONS];
		} memory;
		struct {
			uint32_t offset, size, flags;
			uint8_t bytes[256];
		} config;
		struct {
			uint64_t size, offset;
			uint16_t queues, queue_size;
		} inflight;
	};
} __attribute__((packed));

static inline void *program_at(struct program *p, bool user, uint64_t addr, uint64_t len)
{
	for (unsigned i = 0; i < p->nr_regions; i++) {
		uint64_t base = user ? p->region[i].user : p->region[i].gpa;

		if (addr >= base && addr - base < p->region[i].size && len <= p->region[i].size - (addr - base))
			return p->region[i].map + (addr - base);
	}
	return NULL;
}

/* ---- rings ---- */

static inline struct account_ring *program_account(struct program *p, unsigned index)
{
	return p->account ? (struct account_ring *)(void *)(p->account + (size_t)index * p->account_ring_size) : NULL;
}

static inline void program_give(struct program *p, unsigned index, uint32_t head, uint32_t written)
{
	struct program_ring *r = &p->ring[index];
	struct vring_used *used = program_at(p, true, r->addr.used_user_addr, 4);
	struct account_ring *account = program_account(p, index);

	if (account && head < r->num) {
		account->desc[head].next = account->last_batch_head;
		account->last_batch_head = (uint16_t)head;
	}
	used->ring[r->used % r->num] = (struct vring_used_elem){ .id = p->bad_id ? head ^ 1 : head, .len = written };
	__atomic_store_n(&used->idx, ++r->used, __ATOMIC_RELEASE);
	if (account && head < r->num) {
		account->desc[head].inflight = 0;
		account->used_idx = r->used;
	}
}

static inline void program_serve_one(struct program *p, unsigned index, uint32_t head)
{
	struct program_ring *r = &p->ring[index];
	const struct vring_desc *desc = program_at(p, true, r->addr.desc_user_addr, 16 * r->num);
	uint32_t number = 0, i = head, written = 0;
	const uint8_t *from;

	if (head >= r->num) {
		program_give(p, index, head, 0);
		return;
	}
	from = program_at(p, false, desc[head].addr, 4);
	if (from && !(desc[head].flags & VRING_DESC_F_WRITE))
		memcpy(&number, from, 4);
	for (unsigned n = 0; n < r->num && desc[i].flags & VRING_DESC_F_NEXT && desc[i].next < r->num && !written;
		n++) {
		uint32_t answer = number + 1;
		uint8_t *to;

		i = desc[i].next;
		to = desc[i].flags & VRING_DESC_F_WRITE && desc[i].len >= 4 ? program_at(p, false, desc[i].addr, 4)
									    : NULL;
		if (to) {
			memcpy(to, &answer, 4);
			written = 4;
		}
	}
	if (number < PROGRAM_NUMBERS)
		p->done[number]++;
	program_give(p, index, head, written);
}

/* The first `n` of them, or all. */
static inline void program_answer_held(struct program *p, unsigned index, unsigned n)
{
	struct program_ring *r = &p->ring[index];
	const struct vring_avail *avail = program_at(p, true, r->addr.avail_user_addr, 4);
	uint64_t one = 1;

	n = n < r->nr_held ? n : r->nr_held;
	for (unsigned i = 0; i < n; i++)
		program_serve_one(p, index, r->held[p->backward ? n - 1 - i : i]);
	r->nr_held -= n;
	memmove(r->held, r->held + n, r->nr_held * sizeof(*r->held));
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	/* With EVENT_IDX it calls more often than it has to. */
	if (n && (p->acked >> VIRTIO_RING_F_EVENT_IDX & 1 || !(avail->flags & VRING_AVAIL_F_NO_INTERRUPT)))
		(void)!write(r->call, &one, sizeof(one));
}

static inline void program_take(struct program *p, unsigned index)
{
	struct program_ring *r = &p->ring[index];
	struct vring_avail *avail = program_at(p, true, r->addr.avail_user_addr, 4);
	struct vring_used *used = program_at(p, true, r->addr.used_user_addr, 4);
	struct account_ring *account = program_account(p, index);

	if (!r->on || !r->enabled || !avail || !used)
		return;
	for (;;) {
		uint16_t idx = __atomic_load_n(&avail->idx, __ATOMIC_ACQUIRE);

		while (r->taken != idx && r->nr_held < 1024) {
			uint32_t head = avail->ring[r->taken++ % r->num];

			if (account && head < r->num) {
				account->desc[head].counter = r->counter++;
				account->desc[head].inflight = 1;
			}
			r->held[r->nr_held++] = head;
			p->taken++;
		}
		if (p->acked >> VIRTIO_RING_F_EVENT_IDX & 1)
			__atomic_store_n((uint16_t *)(void *)&used->ring[r->num], r->taken, __ATOMIC_RELEASE);
		__atomic_thread_fence(__ATOMIC_SEQ_CST);
		if (__atomic_load_n(&avail->idx, __ATOMIC_ACQUIRE) == r->taken || r->nr_held == 1024)
			break;
	}
	program_answer_held(p, index, p->hold ? atomic_exchange(&p->gives, 0) : UINT_MAX);
}

/* "When reconnecting". */
static inline void program_look_at_account(struct program *p, unsigned index)
{
	struct program_ring *r = &p->ring[index];
	struct account_ring *account = program_account(p, index);
	const struct vring_used *used = program_at(p, true, r->addr.used_user_addr, 4);

	if (!account)
		return;
	if (!account->version) {
		account->version = 1;
		account->desc_num = (uint16_t)r->num;
		account->used_idx = used->idx;
		return;
	}
	if (account->used_idx != used->idx) {
		uint16_t n = (uint16_t)(used->idx - account->used_idx), at = account->last_batch_head;

		for (; n; n--, at = account->desc[at].next)
			account->desc[at].inflight = 0;
		account->used_idx = used->idx;
	}
	r->used = used->idx;
	for (;;) {
		uint32_t best = UINT32_MAX;

		for (uint32_t i = 0; i < r->num; i++) {
			bool known = !account->desc[i].inflight;

			for (unsigned j = 0; j < r->nr_held; j++)
				known = known || r->held[j] == i;
			if (!known && (best == UINT32_MAX || account->desc[i].counter < account->desc[best].counter))
				best = i;
		}
		if (best == UINT32_MAX)
			break;
		r->held[r->nr_held++] = best;
		r->counter = account->desc[best].counter + 1;
	}
	r->taken = (uint16_t)(r->used + r->nr_held);
}

static inline void program_ring_begins(struct program *p, unsigned index)
{
	struct program_ring *r = &p->ring[index];
	const struct vring_used *used = program_at(p, true, r->addr.used_user_addr, 4);

	if (r->on || !used || !r->num)
		return;
	r->taken = p->ignores_base ? 0 : (uint16_t)r->base;
	r->used = used->idx;
	r->nr_held = 0;
	program_look_at_account(p, index);
	r->on = true;
}

/* ---- messages ---- */

static inline void program_send(struct program *p, struct program_msg *m, const int *fds, unsigned n)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(4 * sizeof(int))];
	} control = { .bytes = { 0 } };
	struct iovec iov = { m, 12 + m->size };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (n) {
		msg.msg_control = control.bytes;
		msg.msg_controllen = CMSG_SPACE(n * sizeof(int));
		CMSG_FIRSTHDR(&msg)->cmsg_level = SOL_SOCKET;
		CMSG_FIRSTHDR(&msg)->cmsg_type = SCM_RIGHTS;
		CMSG_FIRSTHDR(&msg)->cmsg_len = CMSG_LEN(n * sizeof(int));
		memcpy(CMSG_DATA(CMSG_FIRSTHDR(&msg)), fds, n * sizeof(int));
	}
	(void)!sendmsg(p->conn, &msg, MSG_NOSIGNAL);
}

static inline void program_flood(struct program *p)
{
	const uint32_t request[3] = { 2, 1 | 8, 0 }; /* the config space changed, and an answer is wanted */

	for (unsigned i = 0; i < 100000 && !p->quit; i++) {
		struct pollfd pfd = { .fd = p->channel, .events = POLLOUT };

		if (send(p->channel, request, sizeof(request), MSG_NOSIGNAL | MSG_DONTWAIT) < 0 &&
			(errno != EAGAIN || poll(&pfd, 1, 100) <= 0))
			return;
	}
}

/* Its answer, or what it says instead. */
static inline void program_reply(struct program *p, struct program_msg *m, const int *fds, unsigned n)
{
	enum program_lie lie = p->lie_at == m->request ? p->lie : LIE_NONE;
	const uint8_t noise[64] = { 0xff, 0xfe, 0xfd };
	int spare[3] = { p->wake, p->wake, p->wake };
	const struct timespec pause = { .tv_nsec = p->slow_ms * 1000000L };

	nanosleep(&pause, NULL);

	m->flags = 1 | 4;
	m->request ^= lie == LIE_REQUEST ? 64 : 0;
	m->flags ^= lie == LIE_NO_REPLY ? 4 : lie == LIE_VERSION ? 3 : 0;
	if (lie == LIE_SHORT)
		m->size -= m->size ? 1 : 0;
	if (lie == LIE_LONG)
		m->size += 1;
	if (lie == LIE_FAILED)
		m->u64 = 1;
	if (lie == LIE_CHANNEL && p->channel >= 0)
		(void)!send(p->channel, noise, sizeof(noise), MSG_NOSIGNAL);
	if (lie == LIE_FLOOD && p->channel >= 0)
		program_flood(p);
	if (lie == LIE_HUGE) {
		struct program_msg huge = *m;

		huge.size = UINT32_MAX;
		(void)!send(p->conn, &huge, 12, MSG_NOSIGNAL);
		return;
	}
	if (lie == LIE_HALF) {
		(void)!send(p->conn, m, 6, MSG_NOSIGNAL);
		return;
	}
	if (lie == LIE_HANG_UP) {
		shutdown(p->conn, SHUT_RDWR);
		return;
	}
	if (lie == LIE_SILENT)
		return;
	if (lie == LIE_FDS)
		program_send(p, m, spare, 3);
	else
		program_send(p, m, fds, n);
	if (lie == LIE_CHATTER)
		program_send(p, m, NULL, 0);
}

static inline void program_reply_number(struct program *p, struct program_msg *m, uint64_t number)
{
	m->u64 = number;
	m->size = 8;
	program_reply(p, m, NULL, 0);
}

static inline void program_forget_memory(struct program *p)
{
	for (unsigned i = 0; i < p->nr_regions; i++)
		munmap(p->region[i].map, p->region[i].map_size);
	p->nr_regions = 0;
}

static inline void program_map(struct program *p, const struct program_msg *m, const int *fds)
{
	program_forget_memory(p);
	for (unsigned i = 0; i < m->memory.n && i < PROGRAM_REGIONS; i++) {
		size_t size = m->memory.region[i].size + m->memory.region[i].offset;
		uint8_t *map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fds[i], 0);

		if (map == MAP_FAILED)
			abort();
		p->region[i].gpa = m->memory.region[i].gpa;
		p->region[i].size = m->memory.region[i].size;
		p->region[i].user = m->memory.region[i].user;
		p->region[i].map = map;
		p->region[i].map_size = size + 0;
		p->nr_regions++;
		/* Only the address inside it matters from here on. */
		p->region[i].map = map + m->memory.region[i].offset;
		if (m->memory.region[i].offset) {
			munmap(map, m->memory.region[i].offset);
			p->region[i].map_size -= m->memory.region[i].offset;
		}
	}
}

static inline void program_set_account(struct program *p, const struct program_msg *m, int fd)
{
	if (p->account)
		munmap(p->account, p->account_size);
	p->account_size = m->inflight.size;
	p->account_ring_size = (unsigned)(m->inflight.size / m->inflight.queues);
	p->account = mmap(NULL, p->account_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, (off_t)m->inflight.offset);
	if (p->account == MAP_FAILED)
		abort();
}

static inline void program_new_account(struct program *p, struct program_msg *m)
{
	size_t ring =
		(sizeof(struct account_ring) + m->inflight.queue_size * sizeof(struct account_desc) + 63) & ~(size_t)63;
	int fd = memfd_create("account", MFD_CLOEXEC);

	m->inflight.size = ring * m->inflight.queues;
	m->inflight.offset = 0;
	m->size = 20;
	if (ftruncate(fd, (off_t)m->inflight.size))
		abort();
	program_reply(p, m, &fd, 1);
	close(fd);
}

static inline void program_take_fd(int *to, int fd)
{
	if (*to >= 0)
		close(*to);
	*to = fd >= 0 ? dup(fd) : -1;
}

static inline void program_ring_message(struct program *p, struct program_msg *m, const int *fds, unsigned nr_fds)
{
	unsigned index = m->request == 12 || m->request == 13 || m->request == 14 ? m->u64 & 0xff : m->state.index;
	struct program_ring *r = &p->ring[index % PROGRAM_QUEUES];

	switch (m->request) {
	case 8:
		r->num = m->state.num;
		break;
	case 9:
		r->addr = m->addr;
		break;
	case 10:
		r->base = m->state.num;
		break;
	case 11:
		m->state.num = r->taken;
		m->size = 8;
		r->on = false;
		program_reply(p, m, NULL, 0);
		break;
	case 12:
		program_take_fd(&r->kick, nr_fds ? fds[0] : -1);
		program_ring_begins(p, index);
		break;
	case 13:
		program_take_fd(&r->call, nr_fds ? fds[0] : -1);
		break;
	case 18:
		r->enabled = m->state.num;
		program_take(p, index);
		break;
	default:
		break;
	}
}

static inline void program_device_message(struct program *p, struct program_msg *m, const int *fds, unsigned nr_fds)
{
	switch (m->request) {
	case 1:
		program_reply_number(p, m, p->features);
		break;
	case 2:
		p->acked = m->u64;
		break;
	case 5:
		program_map(p, m, fds);
		break;
	case 15:
		program_reply_number(p, m, p->protocol);
		break;
	case 16:
		p->acked_protocol = m->u64;
		break;
	case 17:
		program_reply_number(p, m, PROGRAM_QUEUES);
		break;
	case 21:
		program_take_fd(&p->channel, nr_fds ? fds[0] : -1);
		break;
	case 24:
		if (m->config.size > p->space_len) {
			m->size = 0;
		} else {
			memcpy(m->config.bytes, p->space, m->config.size);
			m->size = 12 + m->config.size;
		}
		program_reply(p, m, NULL, 0);
		break;
	case 25:
		memcpy(p->space + m->config.offset, m->config.bytes, m->config.size);
		p->config_writes++;
		break;
	case 31:
		program_new_account(p, m);
		break;
	case 32:
		program_set_account(p, m, fds[0]);
		break;
	case 34:
		for (unsigned i = 0; i < PROGRAM_QUEUES; i++)
			p->ring[i].on = p->ring[i].enabled = false;
		break;
	default:
		program_ring_message(p, m, fds, nr_fds);
	}
}

/* One message. False: the connection is over. */
static inline bool program_message(struct program *p)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(16 * sizeof(int))];
	} control;
	struct program_msg m = { 0 };
	struct iovec iov = { &m, 12 };
	struct msghdr msg = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof(control.bytes)
	};
	struct cmsghdr *cmsg;
	uint32_t request, asked;
	unsigned nr_fds = 0;
	int fds[16];

	if (recvmsg(p->conn, &msg, MSG_CMSG_CLOEXEC | MSG_WAITALL) != 12)
		return false;
	cmsg = CMSG_FIRSTHDR(&msg);
	if (cmsg && cmsg->cmsg_type == SCM_RIGHTS) {
		nr_fds = (unsigned)((cmsg->cmsg_len - CMSG_LEN(0)) / sizeof(int));
		memcpy(fds, CMSG_DATA(cmsg), nr_fds * sizeof(int));
	}
	if (m.size > sizeof(m.bytes) || (m.size && recv(p->conn, m.bytes, m.size, MSG_WAITALL) != (ssize_t)m.size))
		return false;
	request = m.request;
	asked = m.flags & 8;
	program_device_message(p, &m, fds, nr_fds);
	for (unsigned i = 0; i < nr_fds; i++)
		close(fds[i]);
	/* Those that have a reply of their own have had it. */
	if (asked && request != 1 && request != 11 && request != 15 && request != 17 && request != 24 &&
		request != 31) {
		m.request = request;
		program_reply_number(p, &m, 0);
	}
	return true;
}

/* ---- its life ---- */

static inline void program_poked(struct program *p)
{
	const uint32_t changed[3] = { 2, 1, 0 }, nonsense[5] = { 1, 5, 8, 0, 0 };
	uint64_t n;

	(void)!read(p->wake, &n, sizeof(n));
	if (atomic_exchange(&p->says_changed, false))
		(void)!send(p->channel, changed, sizeof(changed), MSG_NOSIGNAL);
	if (atomic_exchange(&p->says_nonsense, false))
		(void)!send(p->conn, nonsense, sizeof(nonsense), MSG_NOSIGNAL);
	for (unsigned i = 0; i < PROGRAM_QUEUES && !p->quit; i++)
		if (p->ring[i].on)
			program_take(p, i);
}

static inline void program_connection(struct program *p)
{
	bool alive = true;

	p->connections++;
	while (alive && !p->quit) {
		struct pollfd fds[2 + PROGRAM_QUEUES] = { { .fd = p->wake, .events = POLLIN },
			{ .fd = p->conn, .events = POLLIN } };

		for (unsigned i = 0; i < PROGRAM_QUEUES; i++)
			fds[2 + i] = (struct pollfd){ .fd = p->ring[i].on ? p->ring[i].kick : -1, .events = POLLIN };
		if (poll(fds, 2 + PROGRAM_QUEUES, -1) < 0)
			continue;
		if (fds[0].revents)
			program_poked(p);
		for (unsigned i = 0; i < PROGRAM_QUEUES; i++) {
			uint64_t n;

			if (fds[2 + i].revents && read(p->ring[i].kick, &n, sizeof(n)) == sizeof(n))
				program_take(p, i);
		}
		if (fds[1].revents)
			alive = program_message(p);
	}
}

static inline void program_hang_up(struct program *p)
{
	program_forget_memory(p);
	for (unsigned i = 0; i < PROGRAM_QUEUES; i++) {
		program_take_fd(&p->ring[i].kick, -1);
		program_take_fd(&p->ring[i].call, -1);
		memset(&p->ring[i], 0, sizeof(p->ring[i]));
		p->ring[i].kick = p->ring[i].call = -1;
	}
	if (p->account)
		munmap(p->account, p->account_size);
	p->account = NULL;
	program_take_fd(&p->channel, -1);
	program_take_fd(&p->conn, -1);
}

static inline void *program_thread(void *arg)
{
	struct program *p = arg;

	while (!p->quit) {
		struct pollfd fds[] = { { .fd = p->wake, .events = POLLIN }, { .fd = p->listener, .events = POLLIN } };
		uint64_t n;

		if (poll(fds, 2, -1) < 0)
			continue;
		if (fds[0].revents)
			(void)!read(p->wake, &n, sizeof(n));
		if (!fds[1].revents)
			continue;
		p->conn = accept4(p->listener, NULL, NULL, SOCK_CLOEXEC);
		if (p->conn >= 0)
			program_connection(p);
		program_hang_up(p);
	}
	return NULL;
}

static inline void program_init(struct program *p, const char *name)
{
	memset(p, 0, sizeof(*p));
	snprintf(p->path, sizeof(p->path), "/tmp/trapline-vu-%s-%d", name, (int)getpid());
	p->listener = p->wake = p->conn = p->channel = -1;
	for (unsigned i = 0; i < PROGRAM_QUEUES; i++)
		p->ring[i].kick = p->ring[i].call = -1;
	p->features = 1ULL << VIRTIO_F_VERSION_1 | 1ULL << VIRTIO_RING_F_EVENT_IDX | 1ULL << 30 | 3;
	p->protocol = 1ULL << 0 | 1ULL << 3 | 1ULL << 5 | 1ULL << 9;
	p->space_len = PROGRAM_SPACE;
	for (unsigned i = 0; i < PROGRAM_SPACE; i++)
		p->space[i] = (uint8_t)(i + 1);
}

static inline void program_start(struct program *p)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };

	memcpy(address.sun_path, p->path, sizeof(p->path));
	unlink(p->path);
	p->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(p->listener, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(listen(p->listener, 1), 0);
	p->wake = eventfd(0, EFD_CLOEXEC);
	p->quit = false;
	assert_int_equal(pthread_create(&p->thread, NULL, program_thread, p), 0);
}

/* It looks at its rings, and does what it may. */
static inline void program_poke(struct program *p)
{
	uint64_t one = 1;

	(void)!write(p->wake, &one, sizeof(one));
}

/* It dies as it stands: what it holds is not given back. */
static inline void program_kill(struct program *p)
{
	p->quit = true;
	program_poke(p);
	pthread_join(p->thread, NULL);
	program_hang_up(p);
	close(p->listener);
	close(p->wake);
	p->listener = p->wake = -1;
	unlink(p->path);
}

#endif
