/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_virtio_net.c - the network device against a driver of the test's and a back end of the test's: no thread, no
 * host. The device is one that is only looked at (dry); its back end is exchanged, and its queues are served by hand.
 */
#include "unit.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "host/unix.h"
#include "virtio/net_inner.h"
#include "virtio_hostile.h"
#include "virtq_driver.h"

#define MIB     0x100000ULL
#define RINGS   0x10000ULL /* one of VDRIVER_RINGS a queue */
#define BUFFERS 0x100000ULL
#define EACH    0x12000ULL /* a buffer's room */
#define SLOTS   256
#define BIT(n)  (1ULL << (n))
#define MODERN  (BIT(VIRTIO_F_VERSION_1) | BIT(VIRTIO_NET_F_MRG_RXBUF))
#define GUARD   0xa5

enum { RX0, TX0, RX1, TX1, CONTROL, QUEUES };

struct bed {
	struct vm vm;
	struct memory *memory;
	struct region ram;
	struct device transport;
	struct net *net;
	struct vdriver d[QUEUES];
	unsigned used, changed;
	/* the back end */
	struct net_backend host;
	const uint8_t *frames[8]; /* to come */
	size_t lens[8];
	unsigned nr_frames, next_frame;
	uint8_t sent[NET_HEADER + NET_FRAME]; /* the last one */
	size_t sent_len;
	unsigned nr_sent, pieces, busy; /* busy: how many are not taken now */
	int send_result;
	struct net_ops ops;
	unsigned good_flushes; /* that are yet to come */
	int flush_result;      /* after them */
	unsigned tun, attached;
	bool closed;
};

static struct bed *bed_of(struct net_backend *b)
{
	return container_of(b, struct bed, host);
}

static ssize_t fake_receive(struct net_backend *b, unsigned pair, const uint8_t **frame)
{
	struct bed *bed = bed_of(b);

	if (bed->next_frame == bed->nr_frames)
		return bed->closed ? -EPIPE : -EAGAIN;
	*frame = bed->frames[bed->next_frame % 8];
	return (ssize_t)bed->lens[bed->next_frame++ % 8];
}

static int fake_send(struct net_backend *b, unsigned pair, const struct iovec *iov, unsigned n, size_t bytes)
{
	struct bed *bed = bed_of(b);

	if (bed->busy) {
		bed->busy--;
		return -EAGAIN;
	}
	bed->sent_len = 0;
	bed->pieces = n;
	for (unsigned i = 0; i < n; i++) {
		assert_true(bed->sent_len + iov[i].iov_len <= sizeof(bed->sent));
		memcpy(bed->sent + bed->sent_len, iov[i].iov_base, iov[i].iov_len);
		bed->sent_len += iov[i].iov_len;
	}
	assert_int_equal(bed->sent_len, bytes);
	bed->nr_sent++;
	return bed->send_result;
}

static int fake_flush(struct net_backend *b, unsigned pair)
{
	struct bed *bed = bed_of(b);

	if (!bed->good_flushes)
		return bed->flush_result;
	bed->good_flushes--;
	return 0;
}

static int fake_attach(struct net_backend *b, unsigned pair, bool on)
{
	bed_of(b)->attached = on ? bed_of(b)->attached | 1U << pair : bed_of(b)->attached & ~(1U << pair);
	return 0;
}

static int fake_offloads(struct net_backend *b, unsigned tun)
{
	bed_of(b)->tun = tun;
	return 0;
}

static void fake_close(struct net_backend *b)
{
}

static const struct net_ops fake_ops = {
	.receive = fake_receive,
	.send = fake_send,
	.attach = fake_attach,
	.offloads = fake_offloads,
	.close = fake_close,
};

static void used(struct virtio *v, unsigned index)
{
	container_of(v->transport, struct bed, transport)->used++;
}

static void config(struct virtio *v)
{
	container_of(v->transport, struct bed, transport)->changed++;
}

static const struct virtio_transport_ops transport_ops = { .used = used, .config = config, .broken = config };
static const struct device_type transport_type = { .name = "test" };

/* A driver that took `features`, with its queues at work. */
static void begin(struct bed *bed, enum net_kind kind, uint64_t features)
{
	struct virtio_net_options o = { .host = { .kind = kind, .fd = -1, .pairs = 2, .dry = true }, .guest = "test" };
	struct error err = { .status = 0 };
	struct virtio *v;

	memset(bed, 0, sizeof(*bed));
	assert_int_equal(vm_init(&bed->vm, true, &err), 0);
	assert_int_equal(memory_new(8 * MIB, &bed->memory), 0);
	bed->ram = (struct region){
		.name = "ram", .kind = REGION_RAM, .space = SPACE_MMIO, .size = 8 * MIB, .memory = bed->memory
	};
	assert_int_equal(bus_add(bed->vm.bus, &bed->ram), 0);
	device_init(&bed->transport, &transport_type, &bed->vm, "net0");
	assert_int_equal(virtio_net_type.create(&bed->vm, "net0", &o, &v, &err), 0);
	virtio_attach(v, &bed->transport, &transport_ops);
	bed->net = container_of(v, struct net, v);
	assert_int_equal(features & ~v->offered, 0);
	net_close(bed->net->host);
	bed->host = (struct net_backend){ .ops = &fake_ops, .pairs = bed->net->pairs, .vnet = kind == NET_TAP };
	strcpy(bed->host.name, "test");
	bed->net->host = &bed->host;
	bed->net->filter.promisc = true;
	v->state.features = features;
	v->state.status = VIRTIO_CONFIG_S_DRIVER_OK;
	for (unsigned i = 0; i < v->nr_queues; i++) {
		vdriver_init(&bed->d[i], bed->memory->host, RINGS + i * VDRIVER_RINGS, &v->queues[i]->state, SLOTS,
			features);
		assert_int_equal(virtq_start(&v->queues[i]->q, features), 0);
	}
	v->type->ready(v);
}

static void serve(struct bed *bed, unsigned index)
{
	bed->net->v.type->serve(&bed->net->v, index);
}

static void end(struct bed *bed)
{
	struct virtio *v = &bed->net->v;

	for (unsigned i = 0; i < v->nr_queues; i++) {
		assert_int_equal(v->queues[i]->q.in_flight, 0);
		virtq_stop(&v->queues[i]->q);
	}
	for (unsigned i = 0; i < bed->net->pairs; i++)
		loop_cancel(&bed->vm.loop, &bed->net->pair[i]->update);
	loop_cancel(&bed->vm.loop, &v->broken);
	v->type->destroy(v);
	assert_true(list_empty(&bed->vm.links));
	bus_remove(bed->vm.bus, &bed->ram);
	bus_drain(bed->vm.bus);
	device_fini(&bed->transport);
	vm_fini(&bed->vm);
	assert_int_equal(bed->memory->refs, 1);
	memory_put(bed->memory);
}

static uint8_t *at(struct bed *bed, uint64_t gpa)
{
	return (uint8_t *)bed->memory->host + gpa;
}

/* A buffer for the device to write, `len` bytes, the n-th of the test's. */
static void offer(struct bed *bed, unsigned n, uint32_t len)
{
	struct vdriver_buf buf = { BUFFERS + n * EACH, len };

	memset(at(bed, buf.gpa), GUARD, EACH);
	assert_true(vdriver_add(&bed->d[RX0], &buf, 1, 0, 0, at(bed, buf.gpa)));
}

static void comes(struct bed *bed, const void *frame, size_t len)
{
	assert_true(bed->nr_frames < 8);
	bed->frames[bed->nr_frames] = frame;
	bed->lens[bed->nr_frames++] = len;
}

/* The back end is readable, or what else epoll says. */
static void event(struct bed *bed, uint32_t events)
{
	struct net_pair *p = bed->net->pair[0];

	p->watch.fn(p->watch.arg, events);
}

/* One frame to send, with a header, as a chain of pieces of at most `piece` bytes. */
static void transmit(
	struct bed *bed, const void *header, size_t header_len, const void *frame, size_t len, size_t piece)
{
	struct vdriver_buf bufs[SLOTS];
	size_t total = header_len + len;
	unsigned n = 0;

	memcpy(at(bed, BUFFERS), header, header_len);
	memcpy(at(bed, BUFFERS + header_len), frame, len);
	for (size_t begun = 0; begun < total; begun += piece)
		bufs[n++] = (struct vdriver_buf){ BUFFERS + begun,
			(uint32_t)(total - begun < piece ? total - begun : piece) };
	assert_true(vdriver_add(&bed->d[TX0], bufs, n, n, 0, bed));
	serve(bed, TX0);
}

/* The frame has been given back, and nothing was written to it. */
static void given_back(struct bed *bed, unsigned index)
{
	uint32_t len;

	assert_non_null(vdriver_get(&bed->d[index], &len));
	assert_int_equal(len, 0);
	assert_null(vdriver_get(&bed->d[index], &len));
}

static uint8_t pattern[NET_HEADER + NET_FRAME];

static void make_pattern(void)
{
	for (size_t i = 0; i < sizeof(pattern); i++)
		pattern[i] = (uint8_t)(i * 7 + i / 251);
	memset(pattern, 0, NET_HEADER);
}

/* ---- receiving ---- */

static void a_frame_goes_over_several_buffers(void **state)
{
	const size_t len = 60000;
	struct bed bed;
	size_t got = 0;
	uint32_t wrote;
	uint8_t *buf;

	make_pattern();
	begin(&bed, NET_TAP, MODERN | BIT(VIRTIO_NET_F_GUEST_CSUM));
	pattern[0] = VIRTIO_NET_HDR_F_DATA_VALID;
	comes(&bed, pattern, NET_HEADER + len);
	for (unsigned i = 0; i < 40; i++)
		offer(&bed, i, 1000 + 50 * i);
	serve(&bed, RX0);
	for (unsigned i = 0; got < len; i++) {
		size_t before = i == 0 ? NET_HEADER : 0;

		buf = vdriver_get(&bed.d[RX0], &wrote);
		assert_ptr_equal(buf, at(&bed, BUFFERS + i * EACH));
		assert_memory_equal(buf + before, pattern + NET_HEADER + got, wrote - before);
		/* All are full but the last, and nothing is behind. */
		assert_true(got + wrote - before == len || wrote == 1000 + 50 * i);
		assert_int_equal(buf[wrote], GUARD);
		got += wrote - before;
		if (got == len)
			assert_int_equal(((struct virtio_net_hdr_v1 *)(void *)at(&bed, BUFFERS))->num_buffers, i + 1);
	}
	assert_int_equal(at(&bed, BUFFERS)[0], VIRTIO_NET_HDR_F_DATA_VALID);
	assert_null(vdriver_get(&bed.d[RX0], &wrote));
	assert_int_equal(bed.used, 1);
	assert_int_equal(bed.net->pair[0]->rx_frames, 1);
	end(&bed);
	pattern[0] = 0;
}

/* Without buffers nothing is lost, and the back end is not asked again. */
static void a_guest_without_buffers_holds_it_up(void **state)
{
	struct bed bed;
	uint32_t len;

	make_pattern();
	begin(&bed, NET_SOCKET, MODERN);
	serve(&bed, RX0);
	for (unsigned i = 0; i < 3; i++)
		comes(&bed, pattern + i, 100 + i);
	event(&bed, EPOLLIN);
	assert_int_equal(bed.next_frame, 1);
	event(&bed, 0);
	assert_int_equal(bed.next_frame, 1);
	/* One buffer is not enough for it. */
	offer(&bed, 0, 60);
	serve(&bed, RX0);
	assert_null(vdriver_get(&bed.d[RX0], &len));
	assert_int_equal(bed.next_frame, 1);
	offer(&bed, 1, 60);
	offer(&bed, 2, 2000);
	serve(&bed, RX0);
	assert_ptr_equal(vdriver_get(&bed.d[RX0], &len), at(&bed, BUFFERS));
	assert_int_equal(len, 60);
	assert_ptr_equal(vdriver_get(&bed.d[RX0], &len), at(&bed, BUFFERS + EACH));
	assert_int_equal(len, 52);
	assert_ptr_equal(vdriver_get(&bed.d[RX0], &len), at(&bed, BUFFERS + 2 * EACH));
	assert_int_equal(len, NET_HEADER + 101);
	assert_memory_equal(at(&bed, BUFFERS + 2 * EACH + NET_HEADER), pattern + 1, 101);
	assert_int_equal(bed.next_frame, 3);
	offer(&bed, 3, 2000);
	serve(&bed, RX0);
	assert_non_null(vdriver_get(&bed.d[RX0], &len));
	assert_int_equal(len, NET_HEADER + 102);
	end(&bed);
}

/* A back end that holds more than a turn's frames, which its descriptor does not tell of. */
static void more_frames_than_a_turn(void **state)
{
	struct bed bed;
	uint32_t len;
	unsigned got = 0;

	make_pattern();
	begin(&bed, NET_SOCKET, MODERN);
	for (unsigned i = 0; i < SLOTS; i++)
		offer(&bed, i % 64, 200);
	for (unsigned i = 0; i < 8; i++)
		comes(&bed, pattern, 100);
	bed.nr_frames = 200;
	serve(&bed, RX0);
	event(&bed, EPOLLIN);
	for (unsigned turn = 0; turn < 3; turn++) {
		eventfd_t n;

		if (eventfd_read(bed.net->v.queues[RX0]->kick, &n) == 0)
			serve(&bed, RX0);
	}
	while (vdriver_get(&bed.d[RX0], &len))
		got++;
	assert_int_equal(got, 200);
	end(&bed);
}

static void buffers_that_are_too_small(void **state)
{
	struct bed bed;
	uint32_t len;

	make_pattern();
	/* One buffer a frame: too long a frame is dropped, the buffer is there for the next. */
	begin(&bed, NET_SOCKET, BIT(VIRTIO_F_VERSION_1));
	offer(&bed, 0, 112);
	comes(&bed, pattern, 101);
	comes(&bed, pattern, 100);
	serve(&bed, RX0);
	assert_int_equal(bed.net->pair[0]->rx_oversized, 1);
	assert_non_null(vdriver_get(&bed.d[RX0], &len));
	assert_int_equal(len, 112);
	end(&bed);
	/* No room for a header; then so many of one byte that there cannot be enough. */
	begin(&bed, NET_SOCKET, MODERN);
	offer(&bed, 0, NET_HEADER - 1);
	offer(&bed, 1, 1000);
	comes(&bed, pattern, 100);
	serve(&bed, RX0);
	assert_int_equal(bed.net->pair[0]->rx_oversized, 1);
	assert_null(vdriver_get(&bed.d[RX0], &len));
	end(&bed);
	begin(&bed, NET_SOCKET, MODERN);
	for (unsigned i = 0; i < SLOTS; i++)
		offer(&bed, i % 64, i ? 1 : NET_HEADER);
	comes(&bed, pattern, SLOTS + 1);
	comes(&bed, pattern, SLOTS - 1);
	serve(&bed, RX0);
	assert_int_equal(bed.net->pair[0]->rx_oversized, 1);
	assert_int_equal(bed.net->pair[0]->rx_frames, 1);
	end(&bed);
}

static void old_headers_are_shorter(void **state)
{
	struct bed bed;
	uint32_t len;

	make_pattern();
	begin(&bed, NET_TAP, 0);
	offer(&bed, 0, 2000);
	comes(&bed, pattern, NET_HEADER + 64);
	serve(&bed, RX0);
	assert_non_null(vdriver_get(&bed.d[RX0], &len));
	assert_int_equal(len, 10 + 64);
	assert_memory_equal(at(&bed, BUFFERS + 10), pattern + NET_HEADER, 64);
	transmit(&bed, (uint8_t[10]){ 0 }, 10, pattern, 64, 2000);
	given_back(&bed, TX0);
	assert_int_equal(bed.sent_len, NET_HEADER + 64);
	assert_memory_equal(bed.sent + NET_HEADER, pattern, 64);
	end(&bed);
}

struct counts {
	uint64_t filtered, unplugged, others;
};

static void see_count(void *arg, const char *name, uint64_t n)
{
	struct counts *counts = arg;

	if (strcmp(name, "rx_filtered") == 0)
		counts->filtered += n;
	else if (strcmp(name, "rx_unplugged") == 0 || strcmp(name, "tx_unplugged") == 0)
		counts->unplugged += n;
	else
		counts->others += n;
}

static void short_and_unwanted_frames(void **state)
{
	struct counts counts = { 0 };
	struct bed bed;
	uint32_t len;

	make_pattern();
	begin(&bed, NET_TAP, MODERN);
	offer(&bed, 0, 2000);
	comes(&bed, pattern, NET_HEADER);
	comes(&bed, pattern, NET_HEADER + NET_ETHERNET - 1);
	comes(&bed, pattern, 3);
	serve(&bed, RX0);
	assert_int_equal(bed.net->pair[0]->rx_filtered, 3);
	bed.net->link.set(&bed.net->link, false);
	assert_int_equal(bed.changed, 1);
	assert_int_equal(bed.net->config.status, 0);
	comes(&bed, pattern, 60);
	event(&bed, EPOLLIN);
	transmit(&bed, pattern, NET_HEADER, pattern, 60, 2000);
	given_back(&bed, TX0);
	assert_int_equal(bed.nr_sent, 0);
	assert_int_equal(bed.net->pair[0]->rx_unplugged, 1);
	assert_int_equal(bed.net->pair[0]->tx_unplugged, 1);
	virtio_net_type.counts(&bed.net->v, see_count, &counts);
	assert_int_equal(counts.filtered, 3);
	assert_int_equal(counts.unplugged, 2);
	assert_int_equal(counts.others, 0);
	bed.net->link.set(&bed.net->link, true);
	bed.net->link.set(&bed.net->link, true);
	assert_int_equal(bed.changed, 2);
	comes(&bed, pattern, NET_HEADER + 60);
	event(&bed, EPOLLIN);
	assert_non_null(vdriver_get(&bed.d[RX0], &len));
	/* Its end is the link's, and the guest is told once. */
	bed.closed = true;
	event(&bed, EPOLLIN | EPOLLRDHUP);
	event(&bed, EPOLLIN | EPOLLRDHUP);
	assert_int_equal(bed.changed, 3);
	assert_false(bed.net->link.up(&bed.net->link));
	bed.net->link.set(&bed.net->link, true);
	assert_int_equal(bed.net->config.status, 0);
	end(&bed);
}

/* ---- transmitting ---- */

static void frames_go_out(void **state)
{
	struct bed bed;

	make_pattern();
	begin(&bed, NET_SOCKET, MODERN);
	for (size_t piece = 300; piece < 70000; piece *= 3) {
		transmit(&bed, pattern, NET_HEADER, pattern, 65000, piece);
		given_back(&bed, TX0);
		assert_int_equal(bed.sent_len, 65000);
		assert_memory_equal(bed.sent, pattern, 65000);
	}
	/* A part of the header a piece. */
	transmit(&bed, pattern, NET_HEADER, pattern, 100, 5);
	assert_int_equal(bed.sent_len, 100);
	assert_memory_equal(bed.sent, pattern, 100);
	assert_int_equal(bed.net->pair[0]->tx_frames, bed.nr_sent);
	end(&bed);
}

/* What a back end has taken is not sent before it says so; what is lost with it was refused. */
static void gathered_frames_count_when_they_are_out(void **state)
{
	struct bed bed;

	make_pattern();
	begin(&bed, NET_SOCKET, MODERN);
	bed.ops = fake_ops;
	bed.ops.flush = fake_flush;
	bed.host.ops = &bed.ops;
	for (unsigned i = 0; i < 3; i++)
		transmit(&bed, pattern, NET_HEADER, pattern, 100, 100);
	assert_int_equal(bed.net->pair[0]->tx_frames, 3);
	/* One finds nothing to do. */
	bed.good_flushes = 1;
	bed.flush_result = -EAGAIN;
	transmit(&bed, pattern, NET_HEADER, pattern, 100, 100);
	assert_int_equal(bed.nr_sent, 4);
	assert_int_equal(bed.net->pair[0]->tx_frames, 3);
	assert_int_equal(bed.net->pair[0]->tx_refused, 0);
	bed.flush_result = -EPIPE;
	serve(&bed, TX0);
	assert_int_equal(bed.net->pair[0]->tx_frames, 3);
	assert_int_equal(bed.net->pair[0]->tx_refused, 1);
	assert_int_equal(bed.net->config.status, 0);
	end(&bed);
}

static void a_busy_back_end_holds_it_up(void **state)
{
	struct bed bed;
	uint32_t len;

	make_pattern();
	begin(&bed, NET_TAP, MODERN);
	bed.busy = 2;
	transmit(&bed, pattern, NET_HEADER, pattern, 100, 2000);
	assert_null(vdriver_get(&bed.d[TX0], &len));
	assert_true(bed.net->pair[0]->blocked);
	event(&bed, EPOLLOUT);
	serve(&bed, TX0);
	assert_null(vdriver_get(&bed.d[TX0], &len));
	event(&bed, EPOLLOUT);
	serve(&bed, TX0);
	given_back(&bed, TX0);
	assert_int_equal(bed.nr_sent, 1);
	assert_int_equal(bed.sent_len, NET_HEADER + 100);
	/* One that it refuses is dropped and counted. */
	bed.send_result = -EINVAL;
	transmit(&bed, pattern, NET_HEADER, pattern, 100, 2000);
	given_back(&bed, TX0);
	assert_int_equal(bed.net->pair[0]->tx_refused, 1);
	end(&bed);
}

/* Of the guest's; short and long ones. */
static void sends(struct bed *bed, unsigned n, uint32_t len)
{
	for (unsigned i = 0; i < n; i++) {
		transmit(bed, pattern, NET_HEADER, pattern, len, EACH);
		given_back(bed, TX0);
	}
}

static void a_transfer_is_told_from_a_talk(void **state)
{
	const struct net_pair *p;
	struct bed bed;

	make_pattern();
	begin(&bed, NET_SOCKET, MODERN);
	p = bed.net->pair[0];
	sends(&bed, NET_BULK_TURNS - 1, NET_BULK_BYTES);
	assert_int_equal(p->bulk_out, NET_BULK_TURNS - 1);
	sends(&bed, 3, NET_BULK_BYTES);
	assert_int_equal(p->bulk_out, NET_BULK_TURNS);
	/* Acknowledgements come, and go on as they will. */
	offer(&bed, 1, EACH);
	offer(&bed, 2, EACH);
	serve(&bed, RX0);
	comes(&bed, pattern, NET_HEADER + 60);
	event(&bed, EPOLLIN);
	assert_int_equal(p->rx_frames, 1);
	assert_int_equal(p->bulk_out, NET_BULK_TURNS);
	/* Something that is not one ends it, ... */
	comes(&bed, pattern, NET_BULK_BYTES);
	event(&bed, EPOLLIN);
	assert_int_equal(p->rx_frames, 2);
	assert_int_equal(p->bulk_out, 0);
	/* ... and so does a question of the guest's. */
	sends(&bed, NET_BULK_TURNS, NET_BULK_BYTES);
	assert_int_equal(p->bulk_out, NET_BULK_TURNS);
	sends(&bed, 1, 60);
	assert_int_equal(p->bulk_out, 0);
	/* The thread of all others is left alone. */
	assert_int_equal(sched_getscheduler(0), SCHED_OTHER);
	end(&bed);
}

/* To the guest, `n` turns of a frame. */
static void receives(struct bed *bed, unsigned n, size_t len)
{
	uint32_t used;

	for (unsigned i = 0; i < n; i++) {
		offer(bed, 1, EACH);
		serve(bed, RX0);
		bed->nr_frames = bed->next_frame = 0;
		comes(bed, pattern, len);
		event(bed, EPOLLIN);
		assert_non_null(vdriver_get(&bed->d[RX0], &used));
	}
}

static void a_transfer_to_the_guest_is_told_from_answers(void **state)
{
	const struct net_pair *p;
	struct bed bed;

	make_pattern();
	begin(&bed, NET_TAP, MODERN);
	p = bed.net->pair[0];
	bed.host.holds = true;
	receives(&bed, NET_BULK_TURNS - 1, NET_BULK_IN);
	assert_int_equal(p->bulk_in, NET_BULK_TURNS - 1);
	receives(&bed, 3, NET_BULK_IN);
	assert_int_equal(p->bulk_in, NET_BULK_TURNS);
	/* The guest's acknowledgements do not end it; a shorter frame does. */
	sends(&bed, 2, 60);
	assert_int_equal(p->bulk_in, NET_BULK_TURNS);
	receives(&bed, 1, NET_BULK_IN - 1);
	assert_int_equal(p->bulk_in, 0);
	/* From who drops what is not read at once, it is read at once. */
	bed.host.holds = false;
	receives(&bed, NET_BULK_TURNS, NET_BULK_IN);
	assert_int_equal(p->bulk_in, 0);
	end(&bed);
}

static void frames_of_no_length(void **state)
{
	static uint8_t zeros[0x12000];
	struct bed bed;

	begin(&bed, NET_TAP, MODERN);
	for (size_t len = 0; len < NET_ETHERNET; len++) {
		transmit(&bed, zeros, NET_HEADER, zeros, len, 2000);
		given_back(&bed, TX0);
	}
	for (size_t len = 1; len < NET_HEADER; len++) {
		transmit(&bed, zeros, len, zeros, 0, 2000);
		given_back(&bed, TX0);
	}
	assert_int_equal(bed.net->pair[0]->tx_malformed, NET_ETHERNET + NET_HEADER - 1);
	transmit(&bed, zeros, NET_HEADER, zeros, NET_FRAME + 1, 0x10000);
	given_back(&bed, TX0);
	assert_int_equal(bed.net->pair[0]->tx_oversized, 1);
	assert_int_equal(bed.nr_sent, 0);
	transmit(&bed, zeros, NET_HEADER, zeros, NET_FRAME, 0x10000);
	given_back(&bed, TX0);
	assert_int_equal(bed.nr_sent, 1);
	end(&bed);
}

#define SUM VIRTIO_NET_HDR_F_NEEDS_CSUM
#define V4  VIRTIO_NET_HDR_GSO_TCPV4
#define V6  VIRTIO_NET_HDR_GSO_TCPV6
#define ECN VIRTIO_NET_HDR_GSO_ECN

/* What a header may say depends on what was negotiated; of 200 bytes. */
static void headers_that_lie(void **state)
{
	static const uint64_t all = MODERN | BIT(VIRTIO_NET_F_CSUM) | BIT(VIRTIO_NET_F_HOST_TSO4) |
				    BIT(VIRTIO_NET_F_HOST_TSO6) | BIT(VIRTIO_NET_F_HOST_ECN);
	static const struct {
		uint64_t without;
		struct virtio_net_hdr_v1 hdr;
		bool good;
	} cases[] = {
		{ 0, { .flags = 0 }, true },
		{ 0, { .flags = SUM, .csum_start = 34, .csum_offset = 16 }, true },
		{ BIT(VIRTIO_NET_F_CSUM), { .flags = SUM, .csum_start = 34, .csum_offset = 16 }, false },
		{ 0, { .flags = SUM, .csum_start = 182, .csum_offset = 16 }, true },
		{ 0, { .flags = SUM, .csum_start = 183, .csum_offset = 16 }, false },
		{ 0, { .flags = SUM, .csum_start = 0xffff, .csum_offset = 0xffff }, false },
		{ 0, { .flags = SUM, .gso_type = V4, .gso_size = 1448, .csum_start = 34, .csum_offset = 16 }, true },
		{ 0, { .flags = SUM, .gso_type = V4, .gso_size = 0, .csum_start = 34, .csum_offset = 16 }, false },
		{ 0, { .flags = 0, .gso_type = V4, .gso_size = 1448 }, false },
		{ BIT(VIRTIO_NET_F_HOST_TSO4), { .flags = SUM, .gso_type = V4, .gso_size = 1448 }, false },
		{ BIT(VIRTIO_NET_F_HOST_TSO6), { .flags = SUM, .gso_type = V6, .gso_size = 1448 }, false },
		{ 0, { .flags = SUM, .gso_type = V6 | ECN, .gso_size = 1448 }, true },
		{ BIT(VIRTIO_NET_F_HOST_ECN), { .flags = SUM, .gso_type = V6 | ECN, .gso_size = 1448 }, false },
		{ 0, { .flags = SUM, .gso_type = VIRTIO_NET_HDR_GSO_UDP, .gso_size = 1448 }, false },
		{ 0, { .flags = SUM, .gso_type = 2, .gso_size = 1448 }, false },
		{ 0, { .flags = SUM, .gso_type = 0x7f, .gso_size = 1448 }, false },
		{ 0, { .flags = 0xfe, .gso_type = ECN, .gso_size = 99, .hdr_len = 0xffff, .num_buffers = 77 }, true },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		const struct virtio_net_hdr_v1 *out;
		struct bed bed;

		begin(&bed, NET_TAP, all & ~cases[i].without);
		out = (const struct virtio_net_hdr_v1 *)(const void *)bed.sent;
		transmit(&bed, &cases[i].hdr, NET_HEADER, pattern, 200, 2000);
		given_back(&bed, TX0);
		assert_int_equal(bed.nr_sent, cases[i].good);
		assert_int_equal(bed.net->pair[0]->tx_malformed, !cases[i].good);
		/* Nothing that was not checked goes on. */
		if (cases[i].good) {
			assert_int_equal(out->flags, cases[i].hdr.flags & SUM);
			assert_true(out->hdr_len <= 200 && out->num_buffers == 0);
			assert_true(out->gso_type == 0 ? out->gso_size == 0 : out->gso_size == 1448);
		}
		end(&bed);
	}
}

/* ---- the control queue ---- */

#define CONTROL_ALL                                                                                                    \
	(MODERN | BIT(VIRTIO_NET_F_CTRL_VQ) | BIT(VIRTIO_NET_F_CTRL_RX) | BIT(VIRTIO_NET_F_CTRL_RX_EXTRA) |            \
		BIT(VIRTIO_NET_F_CTRL_VLAN) | BIT(VIRTIO_NET_F_CTRL_MAC_ADDR) | BIT(VIRTIO_NET_F_MQ) |                 \
		BIT(VIRTIO_NET_F_CTRL_GUEST_OFFLOADS) | BIT(VIRTIO_NET_F_GUEST_CSUM) | BIT(VIRTIO_NET_F_GUEST_TSO4))

/* Its answer: OK, ERR, or GUARD where none was written. */
static uint8_t command(struct bed *bed, const void *bytes, uint32_t len, uint32_t room)
{
	unsigned index = virtio_has(&bed->net->v, VIRTIO_NET_F_MQ) ? CONTROL : RX1;
	struct vdriver_buf bufs[2] = { { BUFFERS, len }, { BUFFERS + EACH, room } };
	uint32_t wrote;

	memcpy(at(bed, BUFFERS), bytes, len);
	at(bed, BUFFERS + EACH)[0] = GUARD;
	assert_true(vdriver_add(&bed->d[index], bufs, room ? 2 : 1, 1, 0, bed));
	serve(bed, index);
	assert_non_null(vdriver_get(&bed->d[index], &wrote));
	assert_int_equal(wrote, room ? 1 : 0);
	return at(bed, BUFFERS + EACH)[0];
}

#define COMMAND(bed, ...) command(bed, (const uint8_t[]){ __VA_ARGS__ }, sizeof((const uint8_t[]){ __VA_ARGS__ }), 1)

static void commands_that_are_none(void **state)
{
	uint8_t noise[64];
	struct bed bed;
	uint64_t errors = 0;

	begin(&bed, NET_TAP, CONTROL_ALL);
	assert_int_equal(COMMAND(&bed, 0), VIRTIO_NET_ERR);
	assert_int_equal(COMMAND(&bed, 0, 0), VIRTIO_NET_ERR);
	assert_int_equal(COMMAND(&bed, 0, 6, 1), VIRTIO_NET_ERR);
	assert_int_equal(COMMAND(&bed, 1, 0), VIRTIO_NET_ERR);
	assert_int_equal(COMMAND(&bed, 1, 0, 0xff, 0xff, 0xff, 0xff, 1, 2), VIRTIO_NET_ERR);
	assert_int_equal(COMMAND(&bed, 1, 0, 1, 0, 0, 0, 1, 2, 3, 4, 5, 6), VIRTIO_NET_ERR);
	assert_int_equal(COMMAND(&bed, 1, 0, 0, 0, 0, 0, 2, 0, 0, 0, 1, 2, 3, 4, 5, 6), VIRTIO_NET_ERR);
	assert_int_equal(COMMAND(&bed, 1, 1, 2, 3, 4, 5, 6), VIRTIO_NET_ERR);
	assert_int_equal(COMMAND(&bed, 1, 1, 2, 3, 4, 5, 6, 7, 8), VIRTIO_NET_ERR);
	assert_int_equal(COMMAND(&bed, 1, 2, 0, 0, 0, 0), VIRTIO_NET_ERR);
	assert_int_equal(COMMAND(&bed, 2, 0, 0), VIRTIO_NET_ERR);
	assert_int_equal(COMMAND(&bed, 2, 0, 0, 0x10), VIRTIO_NET_ERR);
	assert_int_equal(COMMAND(&bed, 2, 2, 0, 0), VIRTIO_NET_ERR);
	assert_int_equal(COMMAND(&bed, 3, 0), VIRTIO_NET_ERR);
	assert_int_equal(COMMAND(&bed, 4, 0, 0, 0), VIRTIO_NET_ERR);
	assert_int_equal(COMMAND(&bed, 4, 0, 3, 0), VIRTIO_NET_ERR);
	assert_int_equal(COMMAND(&bed, 4, 0, 1), VIRTIO_NET_ERR);
	assert_int_equal(COMMAND(&bed, 4, 1, 1, 0), VIRTIO_NET_ERR);
	assert_int_equal(COMMAND(&bed, 5, 0, 2, 0, 0, 0, 0, 0, 0), VIRTIO_NET_ERR);
	/* A feature that is not one that was taken: GUEST_TSO6, and CSUM and GUEST_UFO. */
	assert_int_equal(COMMAND(&bed, 5, 0, 0, 1, 0, 0, 0, 0, 0, 0), VIRTIO_NET_ERR);
	assert_int_equal(COMMAND(&bed, 5, 0, 1, 0, 0, 0, 0, 0, 0, 0), VIRTIO_NET_ERR);
	assert_int_equal(COMMAND(&bed, 5, 0, 0, 4, 0, 0, 0, 0, 0, 0), VIRTIO_NET_ERR);
	assert_int_equal(COMMAND(&bed, 0xff, 0xff, 0xff), VIRTIO_NET_ERR);
	errors = bed.net->control_errors;
	assert_int_equal(errors, 23);
	/* Nobody wants to know; the command is carried out all the same. */
	assert_int_equal(command(&bed, (const uint8_t[]){ 0, 1, 1 }, 3, 0), GUARD);
	assert_true(bed.net->filter.allmulti);
	srandom(1);
	for (unsigned i = 0; i < 20000; i++) {
		for (size_t k = 0; k < sizeof(noise); k++)
			noise[k] = (uint8_t)random();
		noise[0] %= 7;
		noise[1] %= 7;
		(void)command(&bed, noise, 1 + (uint32_t)random() % sizeof(noise), 1);
	}
	end(&bed);
	/* Nothing is taken of what was not negotiated. */
	begin(&bed, NET_TAP, MODERN | BIT(VIRTIO_NET_F_CTRL_VQ));
	assert_int_equal(COMMAND(&bed, 0, 0, 1), VIRTIO_NET_ERR);
	assert_int_equal(COMMAND(&bed, 0, 2, 1), VIRTIO_NET_ERR);
	assert_int_equal(COMMAND(&bed, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0), VIRTIO_NET_ERR);
	assert_int_equal(COMMAND(&bed, 1, 1, 2, 3, 4, 5, 6, 7), VIRTIO_NET_ERR);
	assert_int_equal(COMMAND(&bed, 2, 0, 1, 0), VIRTIO_NET_ERR);
	assert_int_equal(COMMAND(&bed, 4, 0, 1, 0), VIRTIO_NET_ERR);
	assert_int_equal(COMMAND(&bed, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0), VIRTIO_NET_ERR);
	end(&bed);
}

static void commands(void **state)
{
	const uint8_t own[6] = { 2, 3, 4, 5, 6, 7 };
	struct bed bed;

	begin(&bed, NET_TAP, CONTROL_ALL);
	assert_int_equal(bed.tun, TUN_F_CSUM | TUN_F_TSO4);
	assert_int_equal(COMMAND(&bed, 5, 0, 2, 0, 0, 0, 0, 0, 0, 0), VIRTIO_NET_OK);
	assert_int_equal(bed.tun, TUN_F_CSUM);
	/* Segments want sums left undone. */
	assert_int_equal(COMMAND(&bed, 5, 0, 0x80, 0, 0, 0, 0, 0, 0, 0), VIRTIO_NET_OK);
	assert_int_equal(bed.tun, 0);
	assert_int_equal(COMMAND(&bed, 4, 0, 2, 0), VIRTIO_NET_OK);
	assert_int_equal(bed.attached, 2);
	assert_int_equal(bed.net->active, 2);
	assert_int_equal(COMMAND(&bed, 4, 0, 1, 0), VIRTIO_NET_OK);
	assert_int_equal(bed.attached, 0);
	assert_int_equal(COMMAND(&bed, 1, 1, 2, 3, 4, 5, 6, 7), VIRTIO_NET_OK);
	assert_memory_equal(bed.net->config.mac, own, 6);
	assert_int_equal(COMMAND(&bed, 0, 0, 0), VIRTIO_NET_OK);
	assert_false(bed.net->filter.promisc);
	bed.net->v.type->reset(&bed.net->v);
	assert_true(bed.net->filter.promisc);
	assert_memory_equal(bed.net->config.mac, bed.net->mac, 6);
	assert_int_equal(bed.tun, 0);
	end(&bed);
}

static bool wants(struct bed *bed, const char *to, unsigned vid)
{
	uint8_t frame[60] = { 0 };
	unsigned byte[6];

	assert_int_equal(sscanf(to, "%x:%x:%x:%x:%x:%x", byte, byte + 1, byte + 2, byte + 3, byte + 4, byte + 5), 6);
	for (unsigned i = 0; i < 6; i++)
		frame[i] = (uint8_t)byte[i];
	if (vid) {
		frame[12] = 0x81;
		frame[14] = (uint8_t)(vid >> 8 | 0x60);
		frame[15] = (uint8_t)vid;
	}
	return net_wants(&bed->net->filter, bed->net->config.mac, true, frame, sizeof(frame));
}

static void filters(void **state)
{
	uint8_t many[2 + 4 + 6 * (NET_MAC_TABLE + 1) + 4] = { 1, 0, NET_MAC_TABLE + 1 };
	struct bed bed;

	begin(&bed, NET_TAP, CONTROL_ALL);
	assert_true(wants(&bed, "2:2:2:2:2:2", 5));
	assert_int_equal(COMMAND(&bed, 0, 0, 0), VIRTIO_NET_OK);
	assert_int_equal(COMMAND(&bed, 1, 1, 2, 0, 0, 0, 0, 1), VIRTIO_NET_OK);
	assert_true(wants(&bed, "2:0:0:0:0:1", 0));
	assert_false(wants(&bed, "2:0:0:0:0:2", 0));
	assert_false(wants(&bed, "2:0:0:0:0:1", 5));
	assert_int_equal(COMMAND(&bed, 2, 0, 5, 0), VIRTIO_NET_OK);
	assert_true(wants(&bed, "2:0:0:0:0:1", 5));
	assert_int_equal(COMMAND(&bed, 2, 1, 5, 0), VIRTIO_NET_OK);
	assert_false(wants(&bed, "2:0:0:0:0:1", 5));
	assert_true(wants(&bed, "ff:ff:ff:ff:ff:ff", 0));
	assert_int_equal(COMMAND(&bed, 0, 5, 1), VIRTIO_NET_OK);
	assert_false(wants(&bed, "ff:ff:ff:ff:ff:ff", 0));
	assert_false(wants(&bed, "1:0:5e:0:0:1", 0));
	assert_int_equal(COMMAND(&bed, 0, 1, 1), VIRTIO_NET_OK);
	assert_true(wants(&bed, "1:0:5e:0:0:1", 0));
	assert_int_equal(COMMAND(&bed, 0, 3, 1), VIRTIO_NET_OK);
	assert_false(wants(&bed, "1:0:5e:0:0:1", 0));
	assert_int_equal(COMMAND(&bed, 0, 3, 0), VIRTIO_NET_OK);
	assert_int_equal(COMMAND(&bed, 0, 1, 0), VIRTIO_NET_OK);
	assert_int_equal(COMMAND(&bed, 0, 2, 1), VIRTIO_NET_OK);
	assert_true(wants(&bed, "2:0:0:0:0:2", 0));
	assert_int_equal(COMMAND(&bed, 0, 4, 1), VIRTIO_NET_OK);
	assert_false(wants(&bed, "2:0:0:0:0:1", 0));
	assert_int_equal(COMMAND(&bed, 0, 4, 0), VIRTIO_NET_OK);
	assert_int_equal(COMMAND(&bed, 0, 2, 0), VIRTIO_NET_OK);
	/* The table: one of each kind; then one that is longer than what is kept. */
	assert_int_equal(
		COMMAND(&bed, 1, 0, 1, 0, 0, 0, 2, 0, 0, 0, 0, 9, 1, 0, 0, 0, 1, 0, 0x5e, 0, 0, 9), VIRTIO_NET_OK);
	assert_true(wants(&bed, "2:0:0:0:0:9", 0));
	assert_true(wants(&bed, "1:0:5e:0:0:9", 0));
	assert_false(wants(&bed, "1:0:5e:0:0:8", 0));
	assert_int_equal(command(&bed, many, sizeof(many), 1), VIRTIO_NET_OK);
	assert_true(wants(&bed, "2:0:0:0:0:77", 0));
	assert_false(wants(&bed, "1:0:5e:0:0:9", 0));
	end(&bed);
}

/* ---- the rest ---- */

static void addresses(void **state)
{
	uint8_t a[6], b[6];

	virtio_net_mac("web", "net0", a);
	virtio_net_mac("web", "net0", b);
	assert_memory_equal(a, b, 6);
	assert_int_equal(a[0] & 3, 2);
	virtio_net_mac("web", "net1", b);
	assert_memory_not_equal(a, b, 6);
	virtio_net_mac("weB", "net0", b);
	assert_memory_not_equal(a, b, 6);
	virtio_net_mac("", "", b);
	assert_int_equal(b[0] & 3, 2);
}

/* An old driver writes its address; a new one cannot. */
static void the_address_in_config_space(void **state)
{
	struct bed bed;

	begin(&bed, NET_SOCKET, 0);
	virtio_config_write(&bed.net->v, 5, 1, (const uint8_t[]){ 0x77 });
	assert_int_equal(bed.net->config.mac[5], 0x77);
	virtio_config_write(&bed.net->v, 4, 4, (const uint8_t[]){ 1, 2, 3, 4 });
	assert_int_equal(bed.net->config.mac[5], 2);
	assert_int_equal(bed.net->config.status, VIRTIO_NET_S_LINK_UP);
	end(&bed);
	begin(&bed, NET_SOCKET, MODERN);
	virtio_config_write(&bed.net->v, 5, 1, (const uint8_t[]){ (uint8_t)~bed.net->mac[5] });
	assert_memory_equal(bed.net->config.mac, bed.net->mac, 6);
	end(&bed);
}

/* Leaving a queue drops the frame that waits; nothing is touched afterwards. */
static void a_queue_that_is_left(void **state)
{
	struct bed bed;

	make_pattern();
	begin(&bed, NET_SOCKET, MODERN);
	serve(&bed, RX0);
	comes(&bed, pattern, 100);
	event(&bed, EPOLLIN);
	offer(&bed, 1, 20);
	serve(&bed, RX0);
	assert_int_equal(bed.net->pair[0]->frame_len, 100);
	assert_int_equal(bed.net->v.queues[RX0]->q.in_flight, 1);
	assert_int_equal(bed.net->pair[0]->rx_reset, 0);
	bed.net->v.type->quiesce(&bed.net->v, RX0);
	assert_int_equal(bed.net->pair[0]->frame_len, 0);
	assert_int_equal(bed.net->pair[0]->rx_reset, 1);
	assert_int_equal(bed.net->v.queues[RX0]->q.in_flight, 0);
	comes(&bed, pattern, 100);
	offer(&bed, 0, 2000);
	event(&bed, EPOLLIN);
	assert_int_equal(bed.next_frame, 1);
	end(&bed);
}

/* ---- rings that are made up ---- */

/* Frames with a header that is mostly none; commands that are nearly some. */
static void hostile_request(struct hostile *h, unsigned queue, uint8_t *bytes, size_t n)
{
	if (queue % 2)
		memset(bytes, 0, hostile_some(h, 4) ? NET_HEADER : 0);
	else
		bytes[0] %= 7;
	bytes[queue % 2 ? 0 : 1] %= 7;
}

/* No host: what is sent is looked at and vanishes. */
static void hostile_sums(void **state)
{
	const struct virtio_net_options o = { .host = { .kind = NET_TAP, .fd = -1, .pairs = 2, .dry = true } };

	assert_int_equal(virtio_hostile(&virtio_net_type, &o, 1500, 1, hostile_request), 0);
}

/* Whatever comes goes back, as long as there is somebody. */
static void *echo(void *arg)
{
	int fd = accept(*(int *)arg, NULL, NULL);
	uint8_t bytes[4096];
	ssize_t n;

	assert_true(fd >= 0);
	while ((n = read(fd, bytes, sizeof(bytes))) > 0) {
		for (ssize_t at = 0, done; at < n; at += done) {
			done = send(fd, bytes + at, (size_t)(n - at), MSG_NOSIGNAL);
			if (done <= 0) {
				close(fd);
				return NULL;
			}
		}
	}
	close(fd);
	return NULL;
}

static void hostile_echo(void **state)
{
	char folder[] = "/tmp/trapline-net-XXXXXX", path[64];
	struct virtio_net_options o = { .host = { .kind = NET_SOCKET, .fd = -1, .pairs = 1, .path = path } };
	struct unix_listener listener;
	struct error err;
	pthread_t thread;

	assert_non_null(mkdtemp(folder));
	snprintf(path, sizeof(path), "%s/s", folder);
	assert_int_equal(unix_listen(&listener, path, &err), 0);
	assert_int_equal(fcntl(listener.fd, F_SETFL, 0), 0);
	assert_int_equal(pthread_create(&thread, NULL, echo, &listener.fd), 0);
	assert_int_equal(virtio_hostile(&virtio_net_type, &o, 1500, 2, hostile_request), 0);
	pthread_join(thread, NULL);
	unix_unlisten(&listener);
	rmdir(folder);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_frame_goes_over_several_buffers),
		cmocka_unit_test(a_guest_without_buffers_holds_it_up),
		cmocka_unit_test(more_frames_than_a_turn),
		cmocka_unit_test(buffers_that_are_too_small),
		cmocka_unit_test(old_headers_are_shorter),
		cmocka_unit_test(short_and_unwanted_frames),
		cmocka_unit_test(frames_go_out),
		cmocka_unit_test(gathered_frames_count_when_they_are_out),
		cmocka_unit_test(a_busy_back_end_holds_it_up),
		cmocka_unit_test(a_transfer_is_told_from_a_talk),
		cmocka_unit_test(a_transfer_to_the_guest_is_told_from_answers),
		cmocka_unit_test(frames_of_no_length),
		cmocka_unit_test(headers_that_lie),
		cmocka_unit_test(commands_that_are_none),
		cmocka_unit_test(commands),
		cmocka_unit_test(filters),
		cmocka_unit_test(addresses),
		cmocka_unit_test(the_address_in_config_space),
		cmocka_unit_test(a_queue_that_is_left),
		cmocka_unit_test(hostile_sums),
		cmocka_unit_test(hostile_echo),
	};

	if (unit_bound(150))
		return 1;
	return cmocka_run_group_tests(tests, unit_adopt, unit_release);
}
