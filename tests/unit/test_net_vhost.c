/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_net_vhost.c - a network device whose frames somebody else carries: which rings that one gets and when, and what
 * becomes of them with the cable out, and when the tap is gone. Tap and kernel are this file's; the kernel's vhost-net
 * itself is tried in the lab.
 */
#include "unit.h"

#include <errno.h>
#include <semaphore.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "host/vhost_kernel.h"
#include "virtio/net_inner.h"
#include "virtio_bed.h"

enum { RX0, TX0, RX1, TX1, CONTROL, QUEUES };

#define BIT(n)  (1ULL << (n))
#define OFFERED (BIT(VIRTIO_F_VERSION_1) | BIT(VIRTIO_NET_F_MRG_RXBUF) | BIT(VIRTIO_NET_F_STATUS))
#define ALL     (OFFERED | BIT(VIRTIO_NET_F_MQ) | BIT(VIRTIO_NET_F_CTRL_VQ))

static struct {
	struct net_backend tap;
	struct vhost vhost;
	unsigned frames, header, closes;
	int notice;
	bool gone;
	bool running[QUEUES];
	uint16_t avail[QUEUES]; /* where it began */
	unsigned starts, stops;
	uint64_t features;
	bool patient[QUEUES];
	unsigned times; /* that one became so */
} host;

static ssize_t tap_receive(struct net_backend *b, unsigned pair, const uint8_t **frame)
{
	static const uint8_t bytes[64];

	*frame = bytes;
	if (pair || !host.frames)
		return -EAGAIN;
	host.frames--;
	return sizeof(bytes);
}

static int tap_header(struct net_backend *b, unsigned size)
{
	host.header = size;
	return 0;
}

static int tap_notice(struct net_backend *b)
{
	return host.notice;
}

static bool tap_gone(struct net_backend *b)
{
	eventfd_t n;

	assert_int_equal(eventfd_read(host.notice, &n), 0);
	return host.gone;
}

static void tap_close(struct net_backend *b)
{
	close(host.notice);
	for (unsigned i = 0; i < b->pairs; i++)
		close(b->fds[i]);
	host.closes++;
}

static const struct net_ops tap_ops = {
	.receive = tap_receive, .notice = tap_notice, .gone = tap_gone, .header = tap_header, .close = tap_close
};

int __wrap_net_open(const struct net_config *config, const char *device, struct net_backend **out, struct error *err);
int __wrap_net_open(const struct net_config *config, const char *device, struct net_backend **out, struct error *err)
{
	host.tap = (struct net_backend){ .ops = &tap_ops, .pairs = 2, .vnet = true, .name = "tap" };
	for (unsigned i = 0; i < 2; i++)
		host.tap.fds[i] = eventfd(0, EFD_NONBLOCK);
	host.notice = eventfd(0, EFD_NONBLOCK);
	*out = &host.tap;
	return 0;
}

static int get_features(struct vhost *b, uint64_t *features)
{
	*features = BIT(VIRTIO_F_VERSION_1) | BIT(VIRTIO_NET_F_MRG_RXBUF) | BIT(VIRTIO_F_ANY_LAYOUT);
	return 0;
}

static int start(struct vhost *b, uint64_t features, const struct vhost_range *ranges, unsigned n)
{
	host.features = features;
	return 0;
}

static int start_ring(struct vhost *b, unsigned index, const struct vhost_ring *ring)
{
	host.running[index] = true;
	host.avail[index] = ring->avail;
	host.starts++;
	return 0;
}

static int stop_ring(struct vhost *b, unsigned index, struct vhost_ring *ring)
{
	assert_true(host.running[index]);
	host.running[index] = false;
	host.stops++;
	ring->avail = (uint16_t)(100 + index);
	return 0;
}

static int stop(struct vhost *b)
{
	return 0;
}

static int be_patient(struct vhost *b, unsigned index, bool yes)
{
	__atomic_store_n(&host.patient[index], yes, __ATOMIC_RELEASE);
	__atomic_fetch_add(&host.times, yes, __ATOMIC_RELEASE);
	return 0;
}

static void close_vhost(struct vhost *b)
{
	host.closes++;
}

static const struct vhost_ops vhost_ops = { .features = get_features,
	.start = start,
	.start_ring = start_ring,
	.stop_ring = stop_ring,
	.stop = stop,
	.be_patient = be_patient,
	.close = close_vhost };

int __wrap_vhost_net_open(const int *taps, unsigned pairs, struct vhost **out, struct error *err);
int __wrap_vhost_net_open(const int *taps, unsigned pairs, struct vhost **out, struct error *err)
{
	assert_int_equal(pairs, 2);
	assert_int_equal(taps[1], host.tap.fds[1]);
	host.vhost = (struct vhost){ .ops = &vhost_ops, .name = "kernel" };
	*out = &host.vhost;
	return 0;
}

/* ---- the guest ---- */

static const struct virtio_net_options options = {
	.host = { .kind = NET_TAP, .fd = -1, .pairs = 2 },
	.guest = "test",
	.vhost = true,
};

static struct net *net_of(struct bed *bed)
{
	return (struct net *)(void *)bed->v;
}

static void post(void *arg)
{
	sem_post(arg);
}

/* Until the device's loop has done what was posted before, and what that has posted. */
static void sync_worker(struct bed *bed)
{
	struct loop_work work = { .fn = post };
	sem_t done;

	sem_init(&done, 0, 0);
	work.arg = &done;
	for (unsigned i = 0; i < 3; i++) {
		loop_post(&net_of(bed)->vhost.worker.loop, &work);
		sem_wait(&done);
	}
	sem_destroy(&done);
	settle(bed);
}

/* With all its queues at work. */
static struct bed *begin(uint64_t features)
{
	struct vdriver d;
	struct bed *bed;

	memset(&host, 0, sizeof(host));
	bed = bed_new(&virtio_net_type, &options, RX0, features);
	for (unsigned i = TX0; i < QUEUES; i++) {
		struct virtio_queue *vq = bed->v->queues[i];

		pthread_mutex_lock(&bed->dev.lock);
		vdriver_init(&d, bed->memory->host, VDRIVER_RINGS * i, &vq->state, vq->q.max, features);
		virtio_enable_queue(bed->v, i);
		pthread_mutex_unlock(&bed->dev.lock);
		if (i == CONTROL)
			bed->d = d;
	}
	sync_worker(bed);
	return bed;
}

static void end(struct bed *bed)
{
	bed_free(bed);
	for (unsigned i = 0; i < QUEUES; i++)
		assert_false(host.running[i]);
	assert_int_equal(host.starts, host.stops);
	assert_int_equal(host.closes, 2);
}

static void set_link(struct bed *bed, bool up)
{
	struct vm_link *link = container_of(bed->vm.links.next, struct vm_link, node);

	link->set(link, up);
	assert_int_equal(link->up(link), up);
	sync_worker(bed);
}

/* ---- tests ---- */

static void test_who_serves_what(void **state)
{
	struct bed *bed = begin(ALL);

	assert_true(bed->v->offered & BIT(VIRTIO_NET_F_MRG_RXBUF));
	assert_true(bed->v->offered & BIT(VIRTIO_NET_F_GUEST_TSO4));
	assert_int_equal(bed->v->offered & (BIT(VIRTIO_NET_F_CTRL_RX) | BIT(VIRTIO_NET_F_CTRL_VLAN)), 0);
	assert_int_equal(bed->v->offered & (BIT(VIRTIO_F_RING_PACKED) | BIT(VIRTIO_RING_F_EVENT_IDX)), 0);
	assert_int_equal(host.features, BIT(VIRTIO_F_VERSION_1) | BIT(VIRTIO_NET_F_MRG_RXBUF));
	assert_int_equal(host.header, NET_HEADER);
	for (unsigned i = 0; i < CONTROL; i++)
		assert_true(host.running[i]);
	assert_false(host.running[CONTROL]);
	end(bed);
}

/* Without several pairs the control queue comes third (5.1.2). */
static void test_control_queue(void **state)
{
	struct bed *bed = begin(OFFERED | BIT(VIRTIO_NET_F_CTRL_VQ));

	assert_true(host.running[RX0] && host.running[TX0]);
	assert_false(host.running[2]);
	end(bed);
	bed = begin(OFFERED);
	assert_true(host.running[RX0] && host.running[TX0]);
	end(bed);
}

static void test_control_command(void **state)
{
	const struct vdriver_buf buf[2] = { { BUFFERS, 3 + 1 }, { BUFFERS + 64, 1 } };
	struct bed *bed = begin(ALL);
	uint8_t *ram = bed->memory->host;
	uint32_t len;

	ram[BUFFERS] = VIRTIO_NET_CTRL_MQ;
	ram[BUFFERS + 1] = VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET;
	ram[BUFFERS + 2] = 2;
	ram[BUFFERS + 64] = 0xff;
	assert_true(vdriver_add(&bed->d, buf, 2, 1, 0, bed));
	virtio_kick(bed->v, CONTROL);
	for (unsigned i = 0; i < 10000 && !vdriver_used(&bed->d); i++)
		usleep(1000);
	assert_ptr_equal(vdriver_get(&bed->d, &len), bed);
	assert_int_equal(ram[BUFFERS + 64], VIRTIO_NET_OK);
	end(bed);
}

static void test_cable(void **state)
{
	struct bed *bed = begin(ALL);

	set_link(bed, false);
	assert_int_equal(host.stops, 4);
	for (unsigned i = 0; i < CONTROL; i++)
		assert_int_equal(bed->v->queues[i]->state.avail, 100 + i);
	/* What comes meanwhile is not for the guest; and then each ring goes on where it stood. */
	host.frames = 5;
	set_link(bed, true);
	assert_int_equal(host.frames, 0);
	for (unsigned i = 0; i < CONTROL; i++) {
		assert_true(host.running[i]);
		assert_int_equal(host.avail[i], 100 + i);
	}
	/* Again and again, at an end with the cable out. */
	for (unsigned i = 0; i < 20; i++)
		set_link(bed, i % 2);
	set_link(bed, false);
	end(bed);
}

/* A driver that begins while the cable is out gets its rings served when it is back. */
static void test_begins_without_cable(void **state)
{
	struct bed *bed = begin(ALL);

	set_link(bed, false);
	pthread_mutex_lock(&bed->dev.lock);
	virtio_reset_queue(bed->v, TX0);
	pthread_mutex_unlock(&bed->dev.lock);
	sync_worker(bed);
	pthread_mutex_lock(&bed->dev.lock);
	vdriver_init(&bed->d, bed->memory->host, VDRIVER_RINGS * TX0, &bed->v->queues[TX0]->state, 16, ALL);
	virtio_enable_queue(bed->v, TX0);
	pthread_mutex_unlock(&bed->dev.lock);
	sync_worker(bed);
	assert_false(host.running[TX0]);
	set_link(bed, true);
	assert_true(host.running[TX0]);
	assert_int_equal(host.avail[TX0], 0);
	end(bed);
}

/* Something is told, of this interface or of another one. */
static void tell(struct bed *bed, bool gone)
{
	__atomic_store_n(&host.gone, gone, __ATOMIC_SEQ_CST);
	assert_int_equal(eventfd_write(host.notice, 1), 0);
	sync_worker(bed);
}

static void test_tap_gone(void **state)
{
	struct bed *bed = begin(ALL);
	struct vm_link *link = container_of(bed->vm.links.next, struct vm_link, node);

	tell(bed, false);
	assert_true(link->up(link));
	assert_int_equal(host.stops, 0);
	tell(bed, true);
	for (unsigned i = 0; i < 10000 && link->up(link); i++)
		usleep(1000);
	sync_worker(bed);
	assert_false(link->up(link));
	assert_int_equal(net_of(bed)->config.status, 0);
	assert_int_equal(host.stops, 4);
	for (unsigned i = 0; i < CONTROL; i++)
		assert_false(virtq_is_broken(&bed->v->queues[i]->q));
	/* No cable brings it back, and it is told once. */
	link->set(link, false);
	link->set(link, true);
	sync_worker(bed);
	assert_false(link->up(link));
	assert_int_equal(host.stops, 4);
	assert_int_equal(eventfd_write(host.notice, 1), 0);
	sync_worker(bed);
	assert_int_equal(host.starts, 4);
	end(bed);
}

struct traffic {
	uint32_t sent, received; /* bytes of each frame */
	unsigned frames;         /* each way at a time */
	bool indirect;
};

/* Word by word, for who looks at the same time. */
static void put(struct vring_desc *to, const struct vring_desc *d)
{
	uint32_t *address = (uint32_t *)(void *)&to->addr;

	__atomic_store_n(&address[0], (uint32_t)d->addr, __ATOMIC_RELAXED);
	__atomic_store_n(&address[1], (uint32_t)(d->addr >> 32), __ATOMIC_RELAXED);
	__atomic_store_n(&to->len, d->len, __ATOMIC_RELAXED);
	__atomic_store_n(&to->flags, d->flags, __ATOMIC_RELAXED);
	__atomic_store_n(&to->next, d->next, __ATOMIC_RELAXED);
}

/* Some frames each way, as driver and kernel leave them in the rings of pair 0. */
static void pass(struct bed *bed, const struct traffic *t)
{
	const struct virtq_state *tx = &bed->v->queues[TX0]->state, *rx = &bed->v->queues[RX0]->state;
	uint8_t *ram = bed->memory->host;
	struct vring_desc *desc = (void *)(ram + tx->desc), *table = (void *)(ram + TABLE);
	struct vring_avail *avail = (void *)(ram + tx->driver);
	struct vring_used *used = (void *)(ram + rx->device);

	/* Two pieces: the header, and what is behind it. */
	put(&table[0], &(struct vring_desc){ BUFFERS, 12, VRING_DESC_F_NEXT, 1 });
	put(&table[1], &(struct vring_desc){ BUFFERS, t->sent - 12, 0, 0 });
	put(&desc[0], t->indirect ? &(struct vring_desc){ TABLE, 32, VRING_DESC_F_INDIRECT, 0 } : &table[0]);
	put(&desc[1], &table[1]);
	for (unsigned i = 0; i < t->frames; i++) {
		__atomic_store_n(&avail->ring[(avail->idx + i) % tx->size], 0, __ATOMIC_RELAXED);
		__atomic_store_n(&used->ring[(used->idx + i) % rx->size].len, t->received, __ATOMIC_RELAXED);
	}
	__atomic_store_n(&avail->idx, (uint16_t)(avail->idx + t->frames), __ATOMIC_RELEASE);
	if (t->received)
		__atomic_store_n(&used->idx, (uint16_t)(used->idx + t->frames), __ATOMIC_RELEASE);
	virtio_kick(bed->v, TX0);
	usleep(1000);
}

static unsigned times(void)
{
	return __atomic_load_n(&host.times, __ATOMIC_ACQUIRE);
}

static bool is_patient(void)
{
	return __atomic_load_n(&host.patient[RX0], __ATOMIC_ACQUIRE);
}

/* Until the thread was told once more: on a busy host, whose looks see nothing for a while, more than that. */
static void pass_until_patient(struct bed *bed, const struct traffic *t)
{
	unsigned before = times(), i;

	for (i = 0; i < 10000 && times() == before; i++)
		pass(bed, t);
	assert_true(i < 10000);
}

static void wait_until_not_patient(void)
{
	for (unsigned i = 0; i < 10000 && is_patient(); i++)
		usleep(1000);
	assert_false(is_patient());
}

static void test_patient_in_transfers(void **state)
{
	static const struct traffic transfers[] = {
		{ .sent = 65536, .received = 78, .frames = 40 },
		{ .sent = 1526, .received = 78, .frames = 40 },
		{ .sent = 65536, .received = 0, .frames = 40, .indirect = true },
		{ .sent = 78, .received = 1536, .frames = 40 },
	};
	/* So few that a look between a question and its answer finds no more than that. */
	static const struct traffic questions[] = { { 79, 300, 4 }, { 1526, 1526, 4 } };
	struct bed *bed = begin(ALL);

	for (unsigned i = 0; i < 100; i++)
		pass(bed, &questions[i / 50]);
	assert_int_equal(times(), 0);
	for (unsigned i = 0; i < sizeof(transfers) / sizeof(transfers[0]); i++) {
		pass_until_patient(bed, &transfers[i]);
		assert_false(host.patient[RX1]);
		/* Whatever comes next, or if nothing does. */
		for (unsigned n = 0; i % 2 && n < 10000 && is_patient(); n++)
			pass(bed, &questions[0]);
		wait_until_not_patient();
	}
	assert_int_equal(net_of(bed)->pair[0]->vhost_patient, times());
	assert_true(times() >= sizeof(transfers) / sizeof(transfers[0]));
	/* The cable ends it as well. */
	pass_until_patient(bed, &transfers[0]);
	set_link(bed, false);
	wait_until_not_patient();
	set_link(bed, true);
	pass_until_patient(bed, &transfers[0]);
	end(bed);
}

/* What a driver writes is no more than a hint, and harms nobody. */
static void test_patience_with_broken_rings(void **state)
{
	struct bed *bed = begin(ALL);
	const struct virtq_state *tx = &bed->v->queues[TX0]->state;
	uint8_t *ram = bed->memory->host;
	struct vring_desc *desc = (void *)(ram + tx->desc);
	struct vring_avail *avail = (void *)(ram + tx->driver);
	const struct vring_desc tries[] = {
		{ BUFFERS, 64, VRING_DESC_F_NEXT, 0 },                 /* a circle */
		{ BUFFERS, 64, VRING_DESC_F_NEXT, 65535 },             /* beyond the table */
		{ tx->desc, 16, VRING_DESC_F_INDIRECT, 0 },            /* a table in a table */
		{ RAM - 8, 1u << 31, VRING_DESC_F_INDIRECT, 0 },       /* half of it outside of memory */
		{ UINT64_MAX - 8, UINT32_MAX, VRING_DESC_F_INDIRECT }, /* and all round */
		{ BUFFERS, 15, VRING_DESC_F_INDIRECT, 0 },             /* less than a descriptor */
	};

	for (unsigned i = 0; i < sizeof(tries) / sizeof(tries[0]); i++) {
		put(&desc[0], &tries[i]);
		for (unsigned n = 0; n < 15; n++) {
			__atomic_store_n(&avail->ring[avail->idx % tx->size], n % 3 ? 0 : UINT16_MAX, __ATOMIC_RELAXED);
			__atomic_store_n(&avail->idx, (uint16_t)(avail->idx + 1), __ATOMIC_RELEASE);
			virtio_kick(bed->v, TX0);
			usleep(1000);
		}
	}
	wait_until_not_patient();
	end(bed);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_who_serves_what),
		cmocka_unit_test(test_control_queue),
		cmocka_unit_test(test_control_command),
		cmocka_unit_test(test_cable),
		cmocka_unit_test(test_begins_without_cable),
		cmocka_unit_test(test_tap_gone),
		cmocka_unit_test(test_patient_in_transfers),
		cmocka_unit_test(test_patience_with_broken_rings),
	};

	return cmocka_run_group_tests(tests, unit_adopt, unit_release);
}
