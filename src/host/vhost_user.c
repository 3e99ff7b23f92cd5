/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * vhost_user.c - a program's life as the server of a device's queues; see vhost_user.h.
 *
 * What the owner wants (features, memory, rings) is kept, so a new connection is brought to where the last one was by
 * the steps by which the first one came there (vhost_user_peer.c). A step that fails drops the connection.
 */
#include "host/vhost_user.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "core/leave.h"
#include "core/say.h"
#include "core/status.h"
#include "host/unix.h"
#include "host/vhost_user_inner.h"

/* For each message, while the machine is made, and while it runs: a machine that ends does not wait longer either. */
#define START_MS 10000
#define RUN_MS   2000
#define LEAST_MS 20
#define RETRY_MS 250
/* For the first connection: how often, and when it is said that it is waited for. */
#define KNOCK_MS 50
#define SAY_AT   1000
/* See weigh(). */
#define MANY       4
#define MANY_TURNS 8
/* Words about coming and going, at most so often. */
#define TELL_SECONDS 5

static struct vhost_user *user_of(struct vhost *b)
{
	return (struct vhost_user *)(void *)b;
}

static bool connected(const struct vhost_user *u)
{
	return u->conn.fd >= 0;
}

/* ---- the connection ---- */

/* Whether it was said. */
static bool tell(struct vhost_user *u, const char *text)
{
	struct timespec now;
	unsigned left;

	clock_gettime(CLOCK_MONOTONIC, &now);
	if (u->told && now.tv_sec - u->told < TELL_SECONDS)
		return false;
	left = vhost_user_word(&u->b);
	if (!left)
		return false;
	u->told = now.tv_sec ? now.tv_sec : 1;
	say(SAY_SOON_MS, "%s: %s%s", u->b.name, text, left == 1 ? VHOST_USER_LAST : "");
	return true;
}

static const char *reason(int r)
{
	switch (r) {
	case -ETIMEDOUT:
		return "it does not answer";
	case -EPROTO:
		return "it does not keep to the protocol";
	case -EREMOTEIO:
		return "it refuses what it is told";
	case -ECONNRESET:
		return "it is gone";
	case -EINTR:
		return "a signal ended the wait for its answer";
	default:
		return strerror(-r);
	}
}

static void retry(struct vhost_user *u, bool on)
{
	const struct itimerspec when = { .it_value = { .tv_nsec = on ? RETRY_MS * 1000000L : 0 } };

	timerfd_settime(u->timer, 0, &when, NULL);
}

static void hang_up(struct vhost_user *u)
{
	if (u->listening) {
		loop_unwatch(u->b.loop, &u->main_watch);
		loop_unwatch(u->b.loop, &u->channel_watch);
	}
	u->listening = false;
	for (unsigned i = 0; i < VHOST_USER_QUEUES; i++) {
		struct vu_ring *ring = &u->ring[i];

		if (!ring->on || !u->relays)
			continue;
		/* What it has given back until now counts, and no more. */
		(void)!relay_give(&ring->relay);
		ring->relay.memory = NULL;
	}
	vu_drop_relay_memory(u);
	vu_close(&u->conn);
}

static void disown(struct vhost_user *u)
{
	if (u->config.revoke)
		u->config.revoke(u->config.arg);
}

/* It is gone, or as good as. On the loop's thread, in a call of the owner's or not. */
static void lose(struct vhost_user *u, int r)
{
	char text[128];

	if (!connected(u))
		return;
	hang_up(u);
	__atomic_fetch_add(&u->b.losses, 1, __ATOMIC_RELAXED);
	/* While it starts, whoever opens it says why it failed, and ends it. */
	if (u->opened && r != -ECONNRESET)
		disown(u);
	u->again = true;
	if (!u->looped)
		return;
	if (!u->config.reconnect) {
		/* That it is gone is for the owner to say. */
		if (r != -ECONNRESET)
			tell(u, reason(r));
		loop_post(u->b.loop, &u->lost);
		return;
	}
	snprintf(text, sizeof(text), "%s; it is waited for", reason(r));
	u->mourned = tell(u, text) || u->mourned;
	retry(u, true);
}

static void tell_lost(void *arg)
{
	struct vhost_user *u = arg;

	/* Between two lives nobody misses it: the next one begins with another connection. */
	if (u->b.event && !connected(u) && u->started)
		u->b.event(u->b.arg, VHOST_GONE);
}

static int connect_path(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), r;

	if (fd < 0)
		return -errno;
	memcpy(address.sun_path, path, strnlen(path, sizeof(address.sun_path) - 1));
	/* Without waiting: a queue of its that is full (EAGAIN) is as if nobody were there. */
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0)
		return fd;
	r = -errno;
	close(fd);
	return r;
}

static int asked(void *arg, uint32_t request)
{
	struct vhost_user *u = arg;

	if (request != VU_BACKEND_CONFIG_CHANGE)
		return -ENOSYS;
	if (u->b.loop)
		loop_post(u->b.loop, &u->changed);
	return 0;
}

static unsigned limit_of(const struct vhost_user *u, unsigned ms)
{
	return u->config.limit_ms ? u->config.limit_ms : ms;
}

static int dial(struct vhost_user *u, unsigned limit_ms, struct error *err)
{
	int fd = u->config.connect ? u->config.connect(u->config.arg, err) : connect_path(u->config.path);

	if (fd < 0)
		return fd;
	vu_init(&u->conn, fd, limit_of(u, limit_ms));
	u->conn.asked = asked;
	u->conn.arg = u;
	return 0;
}

/*
 * It may keep its owner waiting, but not again and again: a guest that is reset, and a machine that ends, wait for the
 * owner. All that it takes in a go is at most limit_ms.
 */
static void begin(struct vhost_user *u)
{
	int64_t now = vu_now_ms();

	u->patience += now - u->rested;
	if (u->patience > u->conn.limit_ms)
		u->patience = u->conn.limit_ms;
	u->rested = now;
	u->conn.end_ms = now + (u->patience > LEAST_MS ? u->patience : LEAST_MS);
}

static void end(struct vhost_user *u)
{
	int64_t now = vu_now_ms();

	u->patience -= now - u->rested;
	u->rested = now;
	u->conn.end_ms = 0;
}

/* ---- on the loop ---- */

/* What it says without having been asked is nothing of the protocol's. */
static void main_ready(void *arg, uint32_t events)
{
	lose(arg, events & (EPOLLHUP | EPOLLRDHUP) ? -ECONNRESET : -EPROTO);
}

static void channel_ready(void *arg, uint32_t events)
{
	struct vhost_user *u = arg;
	int r = vu_serve_channel(&u->conn);

	if (r)
		lose(u, r);
}

static void space_changed(void *arg)
{
	struct vhost_user *u = arg;
	unsigned got = 0;
	int r;

	if (!connected(u) || !u->space_len)
		return;
	begin(u);
	r = vu_read_space(u, u->space, u->space_len, &got);
	end(u);
	if (r)
		lose(u, r);
	else if (got && u->b.event)
		u->b.event(u->b.arg, VHOST_CONFIG);
}

/*
 * A relay's thread that is woken for each of many requests had better not take the processor from the program that
 * works on the others; where there is one at a time it had better. So its owner is told which it is, once the one is
 * seen MANY_TURNS more often than the other.
 */
static void weigh(struct vhost_user *u, const struct vhost_relay *relay)
{
	if (relay->outstanding >= MANY)
		u->turns += u->turns < MANY_TURNS;
	else
		u->turns -= u->turns > 0;
	if (u->turns != (u->many ? 0 : MANY_TURNS))
		return;
	u->many = !u->many;
	if (u->b.event)
		u->b.event(u->b.arg, u->many ? VHOST_MANY : VHOST_FEW);
}

/* These two are watched for edges, so nobody has to read what was signalled: a system call less for each. */
static void guest_kicked(void *arg, uint32_t events)
{
	struct vu_ring *ring = arg;

	relay_take(&ring->relay);
	weigh(ring->u, &ring->relay);
}

static void program_called(void *arg, uint32_t events)
{
	struct vu_ring *ring = arg;
	int r;

	weigh(ring->u, &ring->relay);
	r = relay_give(&ring->relay);
	if (r)
		lose(ring->u, r);
}

static int listen_now(struct vhost_user *u)
{
	int r;

	u->conn.limit_ms = limit_of(u, RUN_MS);
	u->main_watch = (struct loop_watch){ .fd = u->conn.fd, .fn = main_ready, .arg = u };
	u->channel_watch = (struct loop_watch){ .fd = u->conn.channel, .fn = channel_ready, .arg = u };
	u->listening = true;
	r = loop_watch(u->b.loop, &u->main_watch, EPOLLIN | EPOLLRDHUP);
	return r || u->conn.channel < 0 ? r : loop_watch(u->b.loop, &u->channel_watch, EPOLLIN);
}

/* ---- coming back ---- */

/* The same device as before? Another one in its place would do harm. */
static bool is_same(const struct vhost_user *u, unsigned space_len)
{
	return !(u->offered & ~vu_usable(u)) && u->queues >= u->least_queues && u->space_len == space_len &&
	       (u->relays || !u->config.reconnect || vu_has(u, VU_P_INFLIGHT));
}

static int share_all(struct vhost_user *u)
{
	int r = u->started ? vu_share(u) : 0;

	for (unsigned i = 0; r == 0 && i < VHOST_USER_QUEUES; i++)
		if (u->ring[i].on)
			r = vu_share_ring(u, &u->ring[i]);
	return r;
}

/* -ENODEV: what has come is another device. */
static int greet_again(struct vhost_user *u)
{
	uint8_t space[VHOST_USER_CONFIG];
	unsigned got = 0;
	int r = vu_greet(u);

	if (r == 0 && u->space_len && vu_has(u, VU_P_CONFIG))
		r = vu_read_space(u, space, u->space_len, &got);
	if (r)
		return r;
	if (!is_same(u, got))
		return -ENODEV;
	if (memcmp(space, u->space, got))
		loop_post(u->b.loop, &u->changed);
	memcpy(u->space, space, got);
	return 0;
}

/* Connects again, and brings it to where the last one was. */
static int come_back(struct vhost_user *u)
{
	struct error err = { 0 };
	int r = dial(u, RUN_MS, &err);

	if (r) {
		if (err.text[0])
			tell(u, err.text);
		return r;
	}
	begin(u);
	r = greet_again(u);
	if (r == 0)
		r = listen_now(u);
	if (r == 0)
		r = share_all(u);
	end(u);
	if (r) {
		tell(u, r == -ENODEV ? "what has come back is another device" : reason(r));
		hang_up(u);
		/* It has served nothing yet that it would have to bring to an end. */
		disown(u);
	}
	return r;
}

static void timer_rang(void *arg, uint32_t events)
{
	struct vhost_user *u = arg;
	uint64_t n;

	if (read(u->timer, &n, sizeof(n)) != sizeof(n) || connected(u))
		return;
	if (u->held || come_back(u)) {
		retry(u, true);
		return;
	}
	/* Who has not heard of its going is not told that it came. */
	if (u->mourned)
		say(SAY_SOON_MS, "%s: it is back", u->b.name);
	u->mourned = false;
}

/* Once the loop is known. */
static int join_loop(struct vhost_user *u)
{
	int r;

	if (u->looped)
		return 0;
	r = loop_watch(u->b.loop, &u->timer_watch, EPOLLIN);
	if (r)
		return r;
	u->looped = true;
	if (connected(u))
		return listen_now(u);
	/* It went before we could listen. */
	if (u->config.reconnect)
		retry(u, true);
	return 0;
}

/* ---- what the owner calls ---- */

static int user_features(struct vhost *b, uint64_t *features)
{
	*features = vu_usable(user_of(b));
	return 0;
}

/* A connection that a step failed on is lost. Where it will be tried again that is no failure of the caller's. */
static int or_lose(struct vhost_user *u, int r)
{
	if (r == 0)
		return 0;
	lose(u, r);
	return u->config.reconnect ? 0 : r;
}

static int user_start(struct vhost *b, uint64_t features, const struct vhost_range *ranges, unsigned n)
{
	struct vhost_user *u = user_of(b);
	struct vhost_range shared[VHOST_RANGES];
	unsigned nr_shared = 0;
	int r;

	/* A ring in memory that the program cannot map is none. */
	for (unsigned i = 0; i < n && nr_shared < VHOST_RANGES; i++) {
		if (ranges[i].fd >= 0)
			shared[nr_shared++] = ranges[i];
	}
	r = vhost_map_set(&u->map, shared, nr_shared);
	if (r == 0)
		r = join_loop(u);
	if (r)
		return r;
	u->wanted = features;
	u->started = true;
	u->again = false;
	if (!connected(u) && b->resting && !u->config.reconnect) {
		/*
		 * What the driver wrote and did not flush has gone with it: this life cannot go on as if nothing were.
		 */
		r = -ECONNRESET;
	} else if (connected(u)) {
		begin(u);
		r = vu_share(u);
		end(u);
		r = or_lose(u, r);
	} else if (!u->config.reconnect) {
		r = come_back(u);
	}
	u->started = r == 0;
	return r;
}

static void ring_off(struct vhost_user *u, struct vu_ring *ring)
{
	if (u->relays) {
		loop_unwatch(u->b.loop, &ring->kick);
		loop_unwatch(u->b.loop, &ring->call);
		relay_end(&ring->relay);
	}
	ring->on = false;
}

static int begin_relay(struct vhost_user *u, struct vu_ring *ring, const struct vhost_parts *parts)
{
	int r = relay_begin(&ring->relay, &ring->ring, parts, u->wanted >> VIRTIO_RING_F_EVENT_IDX & 1);

	if (r)
		return r;
	ring->kick = (struct loop_watch){ .fd = ring->ring.kick, .fn = guest_kicked, .arg = ring };
	ring->call = (struct loop_watch){ .fd = ring->relay.call, .fn = program_called, .arg = ring };
	r = loop_watch(u->b.loop, &ring->kick, EPOLLIN | EPOLLET);
	if (r == 0)
		r = loop_watch(u->b.loop, &ring->call, EPOLLIN | EPOLLET);
	return r;
}

static int user_start_ring(struct vhost *b, unsigned index, const struct vhost_ring *at)
{
	struct vhost_user *u = user_of(b);
	struct vu_ring *ring = &u->ring[index];
	struct vhost_parts parts;
	int r;

	if (index >= VHOST_USER_QUEUES)
		return -E2BIG;
	r = vhost_map_ring(&u->map, at, u->wanted >> VIRTIO_F_RING_PACKED & 1, &parts);
	if (r)
		return r;
	ring->u = u;
	ring->index = index;
	ring->ring = *at;
	if (u->relays)
		r = begin_relay(u, ring, &parts);
	ring->on = r == 0;
	if (r == 0 && connected(u)) {
		begin(u);
		r = vu_share_ring(u, ring);
		end(u);
		r = or_lose(u, r);
	} else if (r == 0 && !u->config.reconnect) {
		r = -ECONNRESET;
	}
	if (r)
		ring_off(u, ring);
	return r;
}

static void place_of(const struct vu_ring *ring, struct vhost_ring *at)
{
	at->avail = ring->ring.avail;
	at->used = ring->ring.used;
	at->avail_wrap = ring->ring.avail_wrap;
	at->used_wrap = ring->ring.used_wrap;
	at->nr_left = 0;
}

/* Where the ring stands that its program left. */
static int read_account(struct vu_ring *ring, struct vhost_ring *at)
{
	if (!ring->on)
		return -ECONNRESET;
	at->avail = ring->relay.taken;
	at->used = ring->relay.given;
	at->nr_left = at->left ? relay_left(&ring->relay, at->left) : 0;
	return 0;
}

static int user_stop_ring(struct vhost *b, unsigned index, struct vhost_ring *at)
{
	struct vhost_user *u = user_of(b);
	struct vu_ring *ring = &u->ring[index];
	int r = -ECONNRESET;

	if (connected(u)) {
		begin(u);
		r = vu_take_ring(u, ring);
		end(u);
		/* That the ring makes no sense is the guest's doing. */
		if (r && r != -EINVAL)
			lose(u, r);
	}
	if (r && u->config.account)
		r = read_account(ring, at);
	else if (r == 0)
		place_of(ring, at);
	ring_off(u, ring);
	return r;
}

static int user_stop(struct vhost *b)
{
	struct vhost_user *u = user_of(b);

	u->started = false;
	if (b->resting)
		return 0;
	if (connected(u) && vu_has(u, VU_P_RESET_DEVICE)) {
		int r;

		begin(u);
		r = vu_set(&u->conn, VU_RESET_DEVICE, NULL, 0, NULL, 0);
		end(u);
		if (r)
			lose(u, r);
	}
	vu_drop_account(u);
	return 0;
}

static int user_config_read(struct vhost *b, unsigned offset, unsigned len, uint8_t *bytes)
{
	const struct vhost_user *u = user_of(b);

	if (offset > u->space_len || len > u->space_len - offset)
		return -EINVAL;
	memcpy(bytes, u->space + offset, len);
	return 0;
}

static int user_config_write(struct vhost *b, unsigned offset, unsigned len, const uint8_t *bytes)
{
	struct vhost_user *u = user_of(b);
	struct vu_config c = { .offset = offset, .size = len };
	int r;

	if (offset > u->space_len || len > u->space_len - offset)
		return -EINVAL;
	memcpy(u->space + offset, bytes, len);
	memcpy(c.bytes, bytes, len);
	if (!connected(u))
		return -ECONNRESET;
	begin(u);
	r = vu_set(&u->conn, VU_SET_CONFIG, &c, (uint32_t)(offsetof(struct vu_config, bytes) + len), NULL, 0);
	end(u);
	/* A device may well refuse what a driver writes. */
	if (r && r != -EREMOTEIO)
		lose(u, r);
	return r;
}

/* The loop does not run any more, and may be gone. */
static void user_close(struct vhost *b)
{
	struct vhost_user *u = user_of(b);

	u->listening = false;
	for (unsigned i = 0; i < VHOST_USER_QUEUES; i++) {
		u->ring[i].on = false;
		relay_end(&u->ring[i].relay);
	}
	hang_up(u);
	vu_drop_account(u);
	if (u->timer >= 0)
		close(u->timer);
	free(u);
}

#define COMMON                                                                                                         \
	.features = user_features, .start = user_start, .start_ring = user_start_ring, .stop_ring = user_stop_ring,    \
	.stop = user_stop, .close = user_close

static const struct vhost_ops plain_ops = { COMMON };
static const struct vhost_ops config_ops = { COMMON, .config_read = user_config_read,
	.config_write = user_config_write };

/* ---- the first connection ---- */

static const char *why_not(int r)
{
	switch (r) {
	case -ENOENT:
		return "there is no such socket";
	case -ECONNREFUSED:
		return "nobody listens there";
	case -EAGAIN:
		return "who listens there takes no connection";
	default:
		return strerror(-r);
	}
}

/* Who does not listen yet may begin to. */
static int knock(struct vhost_user *u, struct error *err)
{
	const struct timespec pause = { .tv_nsec = KNOCK_MS * 1000000L };
	int r = u->config.connect ? 0 : unix_check_socket(u->config.path, err);

	if (r)
		return r;
	for (unsigned long ms = 0;; ms += KNOCK_MS) {
		r = dial(u, START_MS, err);
		if ((r != -ENOENT && r != -ECONNREFUSED && r != -EAGAIN) || u->config.connect)
			break;
		if (ms >= u->config.wait * 1000UL || leave_pending())
			break;
		if (ms == SAY_AT)
			say(SAY_MS, "%s: nobody listens there yet; waiting for %u s", u->b.name, u->config.wait);
		nanosleep(&pause, NULL);
	}
	if (r && !u->config.connect && leave_pending()) {
		err->status = STATUS_QUIT;
		return error_set(err, r, "%s: a signal ended the wait for who listens there", u->b.name);
	}
	if (r && !u->config.connect) {
		error_set(err, r, "%s: %s", u->b.name, why_not(r));
		if (r == -ENOENT || r == -ECONNREFUSED || r == -EAGAIN)
			error_hint(err, "start the program that serves the device; wait=SECONDS gives it more time");
	}
	return r;
}

/* Where the length is not known it is sought: programs are strict about it, and most are multiples of 4. */
static int find_space(struct vhost_user *u)
{
	int r = 0;

	if (!vu_has(u, VU_P_CONFIG) || !u->config.config_len)
		return 0;
	if (u->config.config_len < VHOST_USER_CONFIG)
		return vu_read_space(u, u->space, u->config.config_len, &u->space_len);
	for (unsigned len = VHOST_USER_CONFIG; r == 0 && len && !u->space_len; len -= 4)
		r = vu_read_space(u, u->space, len, &u->space_len);
	return r;
}

static int meet(struct vhost_user *u, struct error *err)
{
	int r = knock(u, err), leave;

	if (r)
		return r;
	u->conn.leave = leave = leave_fd();
	r = vu_greet(u);
	if (r == 0)
		r = find_space(u);
	u->conn.leave = -1;
	if (leave >= 0)
		close(leave);
	if (r == -EINTR)
		err->status = STATUS_QUIT;
	if (r)
		return error_set(err, r, "%s: %s", u->b.name, reason(r));
	u->least_queues = u->queues;
	u->offered = vu_usable(u);
	u->relays = u->config.account || (u->config.reconnect && !vu_has(u, VU_P_INFLIGHT));
	u->b.ops = u->space_len ? &config_ops : &plain_ops;
	return 0;
}

int vhost_user_open(const struct vhost_user_config *config, struct vhost **out, struct error *err)
{
	struct vhost_user *u = calloc(1, sizeof(*u));
	int r;

	if (!u)
		return error_set(err, -ENOMEM, "no memory");
	u->b.ops = &plain_ops;
	u->b.shared = true;
	u->b.restarts = !config->reconnect;
	u->b.accounts = config->account;
	u->config = *config;
	u->account = u->relay_fd = -1;
	vu_init(&u->conn, -1, 0);
	u->changed = (struct loop_work){ .fn = space_changed, .arg = u };
	u->lost = (struct loop_work){ .fn = tell_lost, .arg = u };
	snprintf(u->b.name, sizeof(u->b.name), "%s%.100s%s", config->connect ? "" : "vhost-user socket '", config->path,
		config->connect ? "" : "'");
	u->timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	u->timer_watch = (struct loop_watch){ .fd = u->timer, .fn = timer_rang, .arg = u };
	r = u->timer < 0 ? error_set(err, -errno, "%s: no timer: %s", u->b.name, strerror(errno)) : meet(u, err);
	if (r) {
		user_close(&u->b);
		return r;
	}
	u->opened = true;
	*out = &u->b;
	return 0;
}

unsigned vhost_user_queues(const struct vhost *b)
{
	return ((const struct vhost_user *)(const void *)b)->queues;
}

unsigned vhost_user_config_len(const struct vhost *b)
{
	return ((const struct vhost_user *)(const void *)b)->space_len;
}

bool vhost_user_hold(struct vhost *b)
{
	struct vhost_user *u = user_of(b);

	u->held = !connected(u) && u->config.reconnect;
	return u->held;
}

void vhost_user_let(struct vhost *b)
{
	user_of(b)->held = false;
}

unsigned vhost_user_word(struct vhost *b)
{
	struct vhost_user *u = user_of(b);

	return u->words < VHOST_USER_WORDS ? VHOST_USER_WORDS - u->words++ : 0;
}

bool vhost_user_relays(const struct vhost *b)
{
	return ((const struct vhost_user *)(const void *)b)->relays;
}
