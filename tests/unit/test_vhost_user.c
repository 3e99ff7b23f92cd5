/* SPDX-License-Identifier: BSD-2-Clause */
/* test_vhost_user.c - vhost-user's front end against a program that serves, dies, comes back and lies. */
#include "unit.h"

#include <dirent.h>
#include <time.h>

#include "core/backing.h"
#include "host/vhost_user.h"
#include "vhost_user_program.h"
#include "virtq_driver.h"

#define RAM        0x400000ULL
#define BASE       0x100000ULL /* where RAM begins for the guest */
#define RINGS      0x10000ULL  /* in RAM */
#define BUFFERS    0x100000ULL
#define SIZE       64
#define LIMIT_MS   600 /* where it is to be reached; else it is PATIENT_MS */
#define PATIENT_MS 20000

struct owner {
	struct vhost *b;
	struct loop loop;
	struct backing ram;
	struct vdriver d;
	struct virtq_state state;
	struct vhost_ring ring;
	unsigned gone, changed, many, few, got, next;
	unsigned answers[PROGRAM_NUMBERS];
	bool wrong;
};

static void on_event(void *arg, enum vhost_event event)
{
	struct owner *o = arg;

	o->gone += event == VHOST_GONE;
	o->changed += event == VHOST_CONFIG;
	o->many += event == VHOST_MANY;
	o->few += event == VHOST_FEW;
}

static void quit(void *arg)
{
	loop_quit(arg);
}

static void turn(struct owner *o)
{
	struct loop_work work = { .fn = quit, .arg = &o->loop };
	const struct timespec pause = { .tv_nsec = 500000 };

	loop_post(&o->loop, &work);
	loop_run(&o->loop);
	nanosleep(&pause, NULL);
}

/* The condition may have effects: it is looked at once a turn. */
#define UNTIL(o, condition)                                                                                            \
	do {                                                                                                           \
		bool met_ = condition;                                                                                 \
                                                                                                                       \
		for (unsigned n_ = 0; n_ < 20000 && !met_; n_++) {                                                     \
			turn(o);                                                                                       \
			met_ = condition;                                                                              \
		}                                                                                                      \
		if (!met_)                                                                                             \
			fail_msg("never: " #condition);                                                                \
	} while (0)

static unsigned open_files(void)
{
	DIR *dir = opendir("/proc/self/fd");
	unsigned n = 0;

	while (readdir(dir))
		n++;
	closedir(dir);
	return n;
}

static unsigned limit_ms = PATIENT_MS;
static bool accounts;

static struct vhost_user_config config_of(const struct program *p, bool reconnect)
{
	return (struct vhost_user_config){
		.path = p->path,
		.reconnect = reconnect,
		.account = accounts,
		.config_len = PROGRAM_SPACE,
		.limit_ms = limit_ms,
	};
}

static struct owner *owner_by(const struct vhost_user_config *config)
{
	const struct backing_config shared = { .shared = true };
	struct owner *o = calloc(1, sizeof(*o));
	struct error err = { 0 };

	assert_int_equal(loop_init(&o->loop, NULL), 0);
	assert_int_equal(backing_new(&shared, RAM, &o->ram, &err), 0);
	if (vhost_user_open(config, &o->b, &err))
		fail_msg("%s", err.text);
	o->b->loop = &o->loop;
	o->b->event = on_event;
	o->b->arg = o;
	o->ring.kick = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	o->ring.call = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	o->ring.error = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	return o;
}

static struct owner *owner_new(const struct program *p, bool reconnect)
{
	const struct vhost_user_config config = config_of(p, reconnect);

	return owner_by(&config);
}

/* The device is ready: two ranges, which the file backs. */
static int owner_start(struct owner *o, uint64_t features)
{
	const struct vhost_range ranges[] = {
		{ BASE, RAM / 2, o->ram.memory->host, o->ram.memory->fd, 0 },
		{ BASE + (1 << 30), RAM / 2, (uint8_t *)o->ram.memory->host + RAM / 2, o->ram.memory->fd, RAM / 2 },
	};
	uint64_t have;
	int r;

	assert_int_equal(o->b->ops->features(o->b, &have), 0);
	features = (features | 1ULL << VIRTIO_F_VERSION_1) & have;
	vdriver_init(&o->d, (uint8_t *)o->ram.memory->host - BASE, BASE + RINGS, &o->state, SIZE, features);
	o->ring.size = SIZE;
	o->ring.desc = o->state.desc;
	o->ring.driver = o->state.driver;
	o->ring.device = o->state.device;
	o->ring.avail = o->ring.used = 0;
	r = o->b->ops->start(o->b, features, ranges, 2);
	return r ? r : o->b->ops->start_ring(o->b, 1, &o->ring);
}

static void owner_free(struct owner *o)
{
	loop_fini(&o->loop);
	vhost_close(o->b);
	backing_free(&o->ram);
	close(o->ring.kick);
	close(o->ring.call);
	close(o->ring.error);
	free(o);
}

static void owner_stop(struct owner *o)
{
	struct vhost_ring at = o->ring;

	(void)!o->b->ops->stop_ring(o->b, 1, &at);
	(void)!o->b->ops->stop(o->b);
	o->ring.avail = at.avail;
}

/* After a failure, however long the program takes to be itself again. */
static bool started_again(struct owner *o)
{
	owner_stop(o);
	o->next = o->got = 0;
	return owner_start(o, 0) == 0;
}

/* One request; `far`: its buffers are in the second range. */
static bool ask(struct owner *o, bool far)
{
	uint64_t at = BUFFERS + 16ULL * o->next;
	uint64_t gpa = far ? BASE + (1 << 30) + at : BASE + at;
	uint8_t *host = (uint8_t *)o->ram.memory->host + at + (far ? RAM / 2 : 0);
	const struct vdriver_buf bufs[] = { { gpa, 4 }, { gpa + 8, 4 } };
	uint64_t one = 1;

	/* First, for a program that is at work needs no kick to take it. */
	memcpy(host, &o->next, 4);
	memset(host + 8, 0, 4);
	if (!vdriver_add(&o->d, bufs, 2, 1, 0, host))
		return false;
	o->next++;
	if (vdriver_kick(&o->d))
		(void)!write(o->ring.kick, &one, sizeof(one));
	return true;
}

/* Takes all answers that are there; true: there were some. */
static void collect(struct owner *o)
{
	uint32_t len, number, answer;
	uint8_t *host;

	for (;;) {
		vdriver_wish(&o->d, true, 0);
		host = vdriver_get(&o->d, &len);
		if (!host)
			return;
		memcpy(&number, host, 4);
		memcpy(&answer, host + 8, 4);
		o->wrong = o->wrong || len != 4 || answer != number + 1 || number >= PROGRAM_NUMBERS;
		o->answers[number % PROGRAM_NUMBERS]++;
		o->got++;
	}
}

static bool all_answered(struct owner *o)
{
	collect(o);
	return o->got == o->next;
}

static void each_once(const struct owner *o)
{
	assert_false(o->wrong);
	for (unsigned i = 0; i < o->next; i++)
		assert_int_equal(o->answers[i], 1);
}

static bool called(const struct owner *o)
{
	uint64_t n;

	return read(o->ring.call, &n, sizeof(n)) == sizeof(n);
}

/* The program runs, and the device is ready. */
static struct owner *owner_of(struct program *p, bool reconnect)
{
	struct owner *o;

	program_start(p);
	o = owner_new(p, reconnect);
	assert_int_equal(owner_start(o, 0), 0);
	return o;
}

/* Another life of the device. */
static void owner_restart(struct owner *o)
{
	o->next = o->got = 0;
	assert_int_equal(owner_start(o, 0), 0);
}

static void owner_end(struct owner *o, struct program *p)
{
	owner_stop(o);
	owner_free(o);
	program_kill(p);
}

static void serve_one(struct owner *o)
{
	assert_true(ask(o, false));
	UNTIL(o, all_answered(o));
}

/* ---- a good program ---- */

static void a_ring_is_served(void **state)
{
	for (unsigned way = 0; way < 4; way++) {
		bool reconnect = way & 1;
		struct program p;
		struct owner *o;

		program_init(&p, "served");
		if (way & 2)
			p.protocol &= ~(1ULL << 3); /* nothing is answered that needs no answer */
		program_start(&p);
		o = owner_new(&p, reconnect);
		assert_int_equal(vhost_user_relays(o->b), reconnect);
		assert_int_equal(vhost_user_queues(o->b), PROGRAM_QUEUES);
		for (unsigned life = 0; life < 3; life++) {
			bool told = false;

			o->next = o->got = 0;
			memset(o->answers, 0, sizeof(o->answers));
			assert_int_equal(owner_start(o, life == 1 ? 1ULL << VIRTIO_RING_F_EVENT_IDX : 0), 0);
			for (unsigned i = 0; i < 1000; i++) {
				if (!ask(o, i % 3 == 0))
					UNTIL(o, (told |= called(o), all_answered(o)));
			}
			UNTIL(o, (told |= called(o), all_answered(o)));
			UNTIL(o, told || called(o));
			each_once(o);
			owner_stop(o);
			assert_int_equal(o->ring.avail, o->next);
		}
		assert_int_equal(o->gone, 0);
		owner_free(o);
		program_kill(&p);
	}
}

static void the_config_space_is_its_own(void **state)
{
	struct program p;
	struct owner *o;
	uint8_t bytes[PROGRAM_SPACE];

	program_init(&p, "space");
	program_start(&p);
	o = owner_new(&p, false);
	assert_int_equal(vhost_user_config_len(o->b), PROGRAM_SPACE);
	assert_int_equal(o->b->ops->config_read(o->b, 2, 3, bytes), 0);
	assert_memory_equal(bytes, p.space + 2, 3);
	assert_int_equal(o->b->ops->config_read(o->b, 2, PROGRAM_SPACE, bytes), -EINVAL);
	assert_int_equal(owner_start(o, 0), 0);
	assert_int_equal(o->b->ops->config_write(o->b, 4, 4, (const uint8_t *)"four"), 0);
	UNTIL(o, p.config_writes == 1);
	assert_memory_equal(p.space + 4, "four", 4);
	/* It changes it, and says so. */
	memcpy(p.space, "news", 4);
	p.says_changed = true;
	program_poke(&p);
	UNTIL(o, o->changed == 1);
	assert_int_equal(o->b->ops->config_read(o->b, 0, 4, bytes), 0);
	assert_memory_equal(bytes, "news", 4);
	owner_end(o, &p);
}

/* Of a device of a kind that nobody here knows. */
static void the_length_of_the_space_is_found(void **state)
{
	struct vhost_user_config config;
	struct error err = { 0 };
	struct vhost *b;
	struct program p;

	program_init(&p, "length");
	program_start(&p);
	for (unsigned len = 0; len <= PROGRAM_SPACE; len += 4) {
		p.space_len = len;
		config = config_of(&p, false);
		config.config_len = VHOST_USER_CONFIG;
		assert_int_equal(vhost_user_open(&config, &b, &err), 0);
		assert_int_equal(vhost_user_config_len(b), len);
		assert_true(len ? b->ops->config_read != NULL : b->ops->config_read == NULL);
		vhost_close(b);
	}
	program_kill(&p);
}

static void *start_late(void *arg)
{
	const struct timespec pause = { .tv_nsec = 300000000 };

	nanosleep(&pause, NULL);
	program_start(arg);
	return NULL;
}

static void it_may_come_late(void **state)
{
	struct vhost_user_config config;
	struct error err = { 0 };
	struct program p;
	struct vhost *b;
	pthread_t late;

	program_init(&p, "late");
	config = config_of(&p, false);
	assert_int_equal(vhost_user_open(&config, &b, &err), -ENOENT);
	assert_non_null(strstr(err.text, p.path));
	assert_non_null(strstr(err.hint, "wait="));
	config.wait = 20;
	config.limit_ms = 5000;
	pthread_create(&late, NULL, start_late, &p);
	assert_int_equal(vhost_user_open(&config, &b, &err), 0);
	pthread_join(late, NULL);
	vhost_close(b);
	program_kill(&p);
}

/* ---- that goes, and comes back ---- */

static void its_end_is_told_and_a_new_life_finds_the_next(void **state)
{
	struct program p;
	struct owner *o;
	struct vhost_ring at;

	program_init(&p, "ends");
	o = owner_of(&p, false);
	serve_one(o);
	program_kill(&p);
	UNTIL(o, o->gone == 1);
	at = o->ring;
	assert_int_equal(o->b->ops->stop_ring(o->b, 1, &at), -ECONNRESET);
	assert_int_equal(o->b->ops->stop(o->b), 0);
	o->next = o->got = 0;
	assert_true(owner_start(o, 0) < 0);
	program_start(&p);
	assert_int_equal(owner_start(o, 0), 0);
	serve_one(o);
	owner_end(o, &p);
}

struct way {
	const struct program *p;
	int silent[2]; /* [0] is connected to instead, and nobody answers; -1: no */
	unsigned revoked;
};

static int go_to(void *arg, struct error *err)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	const struct way *way = arg;
	int fd;

	if (way->silent[0] >= 0)
		return dup(way->silent[0]);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	memcpy(address.sun_path, way->p->path, sizeof(way->p->path));
	assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	return fd;
}

static void revoked(void *arg)
{
	((struct way *)arg)->revoked++;
}

/* A program of ours that does not answer when it comes back is one to kill, as in mid-run; one that went is not. */
static void it_comes_back_and_does_not_answer(void **state)
{
	struct vhost_user_config config;
	struct program p;
	struct way way = { .p = &p, .silent = { -1, -1 } };
	struct owner *o;

	limit_ms = LIMIT_MS;
	program_init(&p, "silent");
	program_start(&p);
	config = config_of(&p, false);
	config.connect = go_to;
	config.revoke = revoked;
	config.arg = &way;
	o = owner_by(&config);
	assert_int_equal(owner_start(o, 0), 0);
	program_kill(&p);
	UNTIL(o, o->gone == 1);
	owner_stop(o);
	assert_int_equal(way.revoked, 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, way.silent), 0);
	assert_int_equal(owner_start(o, 0), -ETIMEDOUT);
	assert_int_equal(way.revoked, 1);
	owner_free(o);
	close(way.silent[0]);
	close(way.silent[1]);
}

/*
 * The driver writes the device's index. Nobody waits for that to come right, and the program has nothing to do with it.
 */
static void a_used_index_of_the_drivers(void **state)
{
	struct program p;
	struct owner *o;
	struct vhost_ring at;
	uint16_t *used;

	program_init(&p, "index");
	program_start(&p);
	o = owner_new(&p, false);
	for (unsigned life = 0; life < 3; life++) {
		owner_restart(o);
		for (unsigned i = 0; i < 3; i++)
			assert_true(ask(o, false));
		UNTIL(o, all_answered(o));
		used = (uint16_t *)(void *)((uint8_t *)o->ram.memory->host + (o->state.device - BASE) + 2);
		__atomic_store_n(used, life ? 3 - SIZE - 1 : 5, __ATOMIC_RELEASE);
		at = o->ring;
		assert_int_equal(o->b->ops->stop_ring(o->b, 1, &at), -EINVAL);
		assert_int_equal(o->b->ops->stop(o->b), 0);
	}
	assert_int_equal(o->gone, 0);
	assert_int_equal(o->b->losses, 0);
	assert_int_equal(p.connections, 1);
	owner_free(o);
	program_kill(&p);
}

/*
 * Killed again and again while it holds requests and has answered others out of their order. Every request is answered,
 * and once; with the relay and with an account alike.
 */
static void nothing_is_lost_and_nothing_is_told_twice(void **state)
{
	for (unsigned way = 0; way < 4; way++) {
		bool account = way & 1;
		struct program p;
		struct owner *o;

		program_init(&p, "killed");
		p.backward = true;
		if (account)
			p.protocol |= 1ULL << 12;
		program_start(&p);
		o = owner_new(&p, true);
		assert_int_equal(vhost_user_relays(o->b), !account);
		assert_int_equal(owner_start(o, way & 2 ? 1ULL << VIRTIO_RING_F_EVENT_IDX : 0), 0);
		for (unsigned death = 0; death < 12; death++) {
			unsigned taken;

			/* Some are answered, then it keeps what comes, and in its absence more comes. */
			for (unsigned i = 0; i < 10; i++)
				ask(o, i & 1);
			for (unsigned i = 0; i < 20; i++) {
				turn(o);
				collect(o);
			}
			p.hold = true;
			taken = p.taken;
			for (unsigned i = 0; i < 6; i++)
				ask(o, i & 1);
			UNTIL(o, p.taken >= taken + 1);
			program_kill(&p);
			for (unsigned i = 0; i < 4; i++)
				ask(o, false);
			for (unsigned i = 0; i < death; i++)
				turn(o);
			p.hold = death % 3 == 0;
			program_start(&p);
			if (p.hold) {
				UNTIL(o, p.connections == death + 2);
				p.hold = false;
				program_poke(&p);
			}
			UNTIL(o, all_answered(o));
		}
		each_once(o);
		assert_int_equal(o->gone, 0);
		owner_end(o, &p);
	}
}

/*
 * Without another in its place: what it had answered by then is passed on, whether we had looked or not, and the rest
 * is told, in the order in which it was asked.
 */
static void what_it_leaves_is_told(void **state)
{
	for (unsigned way = 0; way < 8; way++) {
		uint16_t left[SIZE];
		unsigned answered, taken;
		struct program p;
		struct owner *o;
		struct vhost_ring at;

		program_init(&p, "leaves");
		p.backward = true;
		program_start(&p);
		accounts = true;
		o = owner_new(&p, false);
		accounts = false;
		assert_true(vhost_user_relays(o->b) && o->b->accounts);
		assert_int_equal(owner_start(o, way & 2 ? 1ULL << VIRTIO_RING_F_EVENT_IDX : 0), 0);
		serve_one(o);
		p.hold = true;
		taken = p.taken;
		for (unsigned i = 0; i < 12; i++)
			assert_true(ask(o, i & 1));
		UNTIL(o, p.taken >= taken + 12);
		/* The first ones, in another order. */
		p.gives = 5;
		program_poke(&p);
		if (way & 1)
			UNTIL(o, (collect(o), o->got == 6));
		for (unsigned i = 0; !(way & 1) && i < 10000 && p.gives; i++)
			usleep(1000);
		program_kill(&p);
		/* These come too late for it. */
		for (unsigned i = 0; i < 3; i++)
			assert_true(ask(o, false));
		if (way & 4)
			UNTIL(o, o->gone == 1);
		at = o->ring;
		at.left = left;
		assert_int_equal(o->b->ops->stop_ring(o->b, 1, &at), 0);
		collect(o);
		answered = o->got;
		assert_int_equal(answered, 6);
		assert_int_equal(at.used, 6);
		assert_in_range(at.avail, 13, 16);
		assert_int_equal(at.nr_left, at.avail - 6);
		for (unsigned i = 0; i < at.nr_left; i++) {
			uint16_t head;

			memcpy(&head, (uint8_t *)o->ram.memory->host - BASE + o->state.driver + 4 + 2ULL * (6 + i), 2);
			assert_int_equal(left[i], head);
		}
		assert_false(o->wrong);
		assert_int_equal(o->b->ops->stop(o->b), 0);
		owner_free(o);
	}
}

/* A pause does not hide that it went: what a driver wrote and did not flush went with it. A reset begins anew. */
static void one_that_goes_in_a_pause_is_missed(void **state)
{
	struct program p;
	struct owner *o;
	struct vhost_ring at;

	program_init(&p, "pause");
	o = owner_of(&p, false);
	at = o->ring;
	assert_int_equal(o->b->ops->stop_ring(o->b, 1, &at), 0);
	o->b->resting = true;
	assert_int_equal(o->b->ops->stop(o->b), 0);
	program_kill(&p);
	for (unsigned i = 0; i < 20; i++)
		turn(o);
	program_start(&p);
	assert_int_equal(owner_start(o, 0), -ECONNRESET);
	o->b->resting = false;
	assert_int_equal(owner_start(o, 0), 0);
	serve_one(o);
	owner_end(o, &p);
}

/* Whose thread the requests pass through hears how many there are, but not each time that it changes. */
static void many_and_few_are_told(void **state)
{
	struct program p;
	struct owner *o;

	program_init(&p, "many");
	o = owner_of(&p, true);
	for (unsigned life = 1; life <= 2; life++) {
		p.hold = true;
		for (unsigned i = 0; i < 20; i++) {
			assert_true(ask(o, false));
			turn(o);
		}
		assert_int_equal(o->many, life);
		assert_int_equal(o->few, life - 1);
		p.hold = false;
		program_poke(&p);
		UNTIL(o, all_answered(o));
		assert_int_equal(o->few, life - 1);
		for (unsigned i = 0; i < 20; i++) {
			serve_one(o);
		}
		assert_int_equal(o->many, life);
		assert_int_equal(o->few, life);
	}
	owner_end(o, &p);
}

/* What it had is waited for; what it never gives back is not waited for long. */
static void a_reset_waits_for_what_it_has(void **state)
{
	limit_ms = LIMIT_MS;
	for (unsigned way = 0; way < 2; way++) {
		struct program p;
		struct owner *o;

		program_init(&p, "reset");
		p.hold = true;
		o = owner_of(&p, way);
		for (unsigned i = 0; i < 8; i++)
			ask(o, false);
		UNTIL(o, p.taken == 8);
		owner_stop(o);
		assert_false(all_answered(o));
		/* It has lost its connection by that, of which nobody is told who has no use for it. */
		turn(o);
		assert_int_equal(o->gone, 0);
		p.hold = false;
		UNTIL(o, started_again(o));
		for (unsigned i = 0; i < 8; i++)
			ask(o, false);
		UNTIL(o, all_answered(o));
		owner_end(o, &p);
	}
}

static void *give_late(void *arg)
{
	struct program *p = arg;

	p->gives = 1;
	program_poke(p);
	usleep(100000);
	p->hold = false;
	program_poke(p);
	return NULL;
}

/*
 * One that answers some at once and others later, in time, is in order: nothing is lost, and it keeps its connection.
 */
static void a_reset_waits_for_one_that_is_slow(void **state)
{
	unsigned connections;
	struct program p;
	struct owner *o;
	pthread_t late;

	program_init(&p, "slow");
	p.hold = true;
	o = owner_of(&p, true);
	for (unsigned i = 0; i < 8; i++)
		ask(o, false);
	UNTIL(o, p.taken == 8);
	connections = p.connections;
	pthread_create(&late, NULL, give_late, &p);
	owner_stop(o);
	pthread_join(late, NULL);
	assert_true(all_answered(o));
	each_once(o);
	assert_int_equal(o->ring.avail, 8);
	owner_restart(o);
	serve_one(o);
	assert_int_equal(p.connections, connections);
	owner_end(o, &p);
}

static void resets_while_it_is_away(void **state)
{
	struct program p;
	struct owner *o;

	program_init(&p, "away");
	program_start(&p);
	o = owner_new(&p, true);
	for (unsigned life = 0; life < 4; life++) {
		owner_restart(o);
		serve_one(o);
		program_kill(&p);
		ask(o, false);
		turn(o);
		owner_stop(o);
		owner_restart(o);
		ask(o, false);
		turn(o);
		program_start(&p);
		UNTIL(o, all_answered(o));
		owner_stop(o);
	}
	owner_free(o);
	program_kill(&p);
}

/* While the machine is paused nobody touches its memory: what is away stays away. */
static void it_does_not_come_back_in_a_pause(void **state)
{
	struct program p;
	struct owner *o;
	unsigned connections;

	program_init(&p, "pause");
	o = owner_of(&p, true);
	assert_false(vhost_user_hold(o->b));
	p.hold = true;
	for (unsigned i = 0; i < 4; i++)
		ask(o, false);
	UNTIL(o, p.taken == 4);
	program_kill(&p);
	UNTIL(o, vhost_user_hold(o->b));
	p.hold = false;
	connections = p.connections;
	program_start(&p);
	for (unsigned i = 0; i < 1000; i++)
		turn(o);
	assert_int_equal(p.connections, connections);
	assert_false(all_answered(o));
	vhost_user_let(o->b);
	UNTIL(o, all_answered(o));
	each_once(o);
	owner_end(o, &p);
}

static void another_device_is_not_taken_for_it(void **state)
{
	struct program p;
	struct owner *o;
	unsigned connections;

	program_init(&p, "other");
	o = owner_of(&p, true);
	serve_one(o);
	program_kill(&p);
	ask(o, false);
	p.space_len = 8;
	program_start(&p);
	connections = p.connections;
	UNTIL(o, p.connections > connections + 2);
	assert_false(all_answered(o));
	program_kill(&p);
	p.space_len = PROGRAM_SPACE;
	program_start(&p);
	UNTIL(o, all_answered(o));
	owner_end(o, &p);
}

/* ---- that lies ---- */

static const uint32_t at_open[] = { 1, 3, 15, 16, 17, 21, 24 };
static const uint32_t at_start[] = { 2, 5, 8, 9, 10, 13, 14, 12, 18 };

static bool is_number(uint32_t request)
{
	return request == 1 || request == 15 || request == 17 || request == 24;
}

/* Some lies are none there: a number has no "it has failed". */
static bool harmless(enum program_lie lie, uint32_t request)
{
	if (lie == LIE_NONE || lie == LIE_FDS || (lie == LIE_FAILED && is_number(request)))
		return true;
	/* Before replies are agreed on there are none to these. */
	if (request == 3 || request == 16)
		return true;
	/* It is read where there is a wait, or at the latest by the loop. */
	if (lie == LIE_CHANNEL || lie == LIE_FLOOD)
		return true;
	/* Found out by the next that is asked, if there is one. */
	return lie == LIE_CHATTER && request == 24;
}

static void lies_at_the_beginning(void **state)
{
	for (enum program_lie lie = LIE_NONE; lie < NR_LIES; lie++) {
		for (size_t i = 0; i < sizeof(at_open) / sizeof(at_open[0]); i++) {
			unsigned before = open_files();
			struct vhost *b = NULL;
			struct vhost_user_config config;
			struct error err = { 0 };
			struct program p;
			int r;

			program_init(&p, "lies");
			p.lie = lie;
			p.lie_at = at_open[i];
			program_start(&p);
			config = config_of(&p, false);
			config.limit_ms = lie == LIE_NONE || lie == LIE_FDS ? PATIENT_MS : 60;
			r = vhost_user_open(&config, &b, &err);
			if (r == 0 && !harmless(lie, at_open[i]))
				fail_msg("lie %d at request %u was believed", (int)lie, at_open[i]);
			if (r && (lie == LIE_NONE || lie == LIE_FDS))
				fail_msg("lie %d at request %u: %s", (int)lie, at_open[i], err.text);
			if (r)
				assert_non_null(strstr(err.text, p.path));
			vhost_close(r ? NULL : b);
			program_kill(&p);
			assert_int_equal(open_files(), before);
		}
	}
}

/* The device of a program that lies is gone, and nothing else; its owner can stop it. */
static void lies_later(void **state)
{
	limit_ms = LIMIT_MS;
	for (enum program_lie lie = LIE_SHORT; lie < NR_LIES; lie++) {
		for (size_t i = 0; i < sizeof(at_start) / sizeof(at_start[0]); i++) {
			struct program p;
			struct owner *o;
			int r;

			program_init(&p, "later");
			p.lie = lie;
			p.lie_at = at_start[i];
			program_start(&p);
			o = owner_new(&p, false);
			r = owner_start(o, 0);
			if (lie == LIE_CHATTER || lie == LIE_CHANNEL)
				UNTIL(o, r < 0 || o->gone == 1);
			else if (lie != LIE_FDS && lie != LIE_FLOOD)
				assert_true(r < 0);
			p.lie = LIE_NONE;
			UNTIL(o, started_again(o));
			ask(o, true);
			UNTIL(o, all_answered(o));
			owner_end(o, &p);
		}
	}
}

/* A stop is an end in any case, and soon. */
static void lies_at_the_end(void **state)
{
	limit_ms = LIMIT_MS;
	for (enum program_lie lie = LIE_NONE; lie < NR_LIES; lie++) {
		struct program p;
		struct owner *o;
		struct timespec begin, end;

		program_init(&p, "end");
		p.lie = lie;
		p.lie_at = 11;
		o = owner_of(&p, false);
		serve_one(o);
		clock_gettime(CLOCK_MONOTONIC, &begin);
		owner_stop(o);
		clock_gettime(CLOCK_MONOTONIC, &end);
		assert_true(end.tv_sec - begin.tv_sec < 10);
		owner_free(o);
		program_kill(&p);
	}
}

/* Each answer is in time, but all of them together are not. */
static void slow_ones_do_not_hold_anybody_up(void **state)
{
	limit_ms = LIMIT_MS;
	for (unsigned way = 0; way < 2; way++) {
		struct timespec start, end;
		struct program p;
		struct owner *o;
		long ms;

		program_init(&p, "slow");
		o = owner_of(&p, way);
		serve_one(o);
		p.slow_ms = LIMIT_MS * 2 / 3;
		clock_gettime(CLOCK_MONOTONIC, &start);
		for (unsigned life = 0; life < 6; life++) {
			owner_stop(o);
			(void)!owner_start(o, 0);
		}
		clock_gettime(CLOCK_MONOTONIC, &end);
		ms = (end.tv_sec - start.tv_sec) * 1000 + (end.tv_nsec - start.tv_nsec) / 1000000;
		/* Some 60 messages of 400 ms each. */
		assert_true(ms < 8000);
		p.slow_ms = 0;
		UNTIL(o, started_again(o));
		serve_one(o);
		owner_end(o, &p);
	}
}

static void words_that_nobody_asked_for(void **state)
{
	struct program p;
	struct owner *o;

	program_init(&p, "words");
	o = owner_of(&p, false);
	p.says_nonsense = true;
	program_poke(&p);
	UNTIL(o, o->gone == 1);
	owner_end(o, &p);
}

/* Of the relay's: it gives back what it has not got. */
static void answers_to_nothing(void **state)
{
	struct program p;
	struct owner *o;
	unsigned connections;

	program_init(&p, "nothing");
	p.bad_id = true;
	o = owner_of(&p, true);
	connections = p.connections;
	ask(o, false);
	UNTIL(o, p.connections > connections);
	collect(o);
	assert_int_equal(o->got, 0);
	p.bad_id = false;
	UNTIL(o, all_answered(o));
	each_once(o);
	owner_end(o, &p);
}

/* ---- a guest that does ---- */

static void a_ring_that_makes_no_sense(void **state)
{
	for (unsigned way = 0; way < 3; way++) {
		struct vring_avail *avail;
		struct program p;
		struct owner *o;
		uint64_t one = 1, n = 0;

		program_init(&p, "ring");
		o = owner_of(&p, true);
		avail = vdriver_at(&o->d, o->d.avail);
		avail->ring[0] = way == 0 ? SIZE : 3;
		avail->ring[1] = 3;
		avail->idx = way == 1 ? SIZE + 1 : 2;
		p.hold = true;
		assert_int_equal(write(o->ring.kick, &one, sizeof(one)), sizeof(one));
		UNTIL(o, read(o->ring.error, &n, sizeof(n)) == sizeof(n));
		p.hold = false;
		program_poke(&p);
		owner_stop(o);
		owner_restart(o);
		serve_one(o);
		owner_end(o, &p);
	}
}

static void a_ring_outside_memory(void **state)
{
	struct program p;
	struct owner *o;

	program_init(&p, "outside");
	o = owner_of(&p, false);
	owner_stop(o);
	assert_int_equal(o->b->ops->start(o->b, 1ULL << VIRTIO_F_VERSION_1,
				 &(struct vhost_range){ BASE, RAM, o->ram.memory->host, o->ram.memory->fd, 0 }, 1),
		0);
	o->ring.device = BASE + RAM - 16;
	assert_int_equal(o->b->ops->start_ring(o->b, 1, &o->ring), -EFAULT);
	o->ring.device = UINT64_MAX - 7;
	assert_int_equal(o->b->ops->start_ring(o->b, 1, &o->ring), -EFAULT);
	assert_int_equal(o->b->ops->stop(o->b), 0);
	owner_free(o);
	program_kill(&p);
}

static int be_patient(void **state)
{
	limit_ms = PATIENT_MS;
	return 0;
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(a_ring_is_served, be_patient),
		cmocka_unit_test_setup(the_config_space_is_its_own, be_patient),
		cmocka_unit_test_setup(the_length_of_the_space_is_found, be_patient),
		cmocka_unit_test_setup(it_may_come_late, be_patient),
		cmocka_unit_test_setup(its_end_is_told_and_a_new_life_finds_the_next, be_patient),
		cmocka_unit_test_setup(it_comes_back_and_does_not_answer, be_patient),
		cmocka_unit_test_setup(a_used_index_of_the_drivers, be_patient),
		cmocka_unit_test_setup(nothing_is_lost_and_nothing_is_told_twice, be_patient),
		cmocka_unit_test_setup(what_it_leaves_is_told, be_patient),
		cmocka_unit_test_setup(one_that_goes_in_a_pause_is_missed, be_patient),
		cmocka_unit_test_setup(many_and_few_are_told, be_patient),
		cmocka_unit_test_setup(a_reset_waits_for_what_it_has, be_patient),
		cmocka_unit_test_setup(a_reset_waits_for_one_that_is_slow, be_patient),
		cmocka_unit_test_setup(resets_while_it_is_away, be_patient),
		cmocka_unit_test_setup(it_does_not_come_back_in_a_pause, be_patient),
		cmocka_unit_test_setup(another_device_is_not_taken_for_it, be_patient),
		cmocka_unit_test_setup(lies_at_the_beginning, be_patient),
		cmocka_unit_test_setup(lies_later, be_patient),
		cmocka_unit_test_setup(lies_at_the_end, be_patient),
		cmocka_unit_test_setup(slow_ones_do_not_hold_anybody_up, be_patient),
		cmocka_unit_test_setup(words_that_nobody_asked_for, be_patient),
		cmocka_unit_test_setup(answers_to_nothing, be_patient),
		cmocka_unit_test_setup(a_ring_that_makes_no_sense, be_patient),
		cmocka_unit_test_setup(a_ring_outside_memory, be_patient),
	};

	return cmocka_run_group_tests(tests, unit_adopt, unit_release);
}
