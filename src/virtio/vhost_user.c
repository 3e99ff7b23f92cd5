/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * vhost_user.c - devices of any type that another program serves; see vhost_user.h.
 *
 * What a type is matters little here: how many queues it has, how long its config space is, and what of it such a
 * program does not do. A file system is a little more: its tag is ours to tell, and when its program has died what the
 * guest asks for is answered with an error, since a file system that answers nothing leaves processes that cannot even
 * be killed. So it is with a disk whose program we started: by the guest's own rules it is a disk that fails.
 */
#include "virtio/vhost_user.h"

#include <ctype.h>
#include <endian.h>
#include <errno.h>
#include <linux/fuse.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_fs.h>
#include <linux/virtio_net.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/say.h"
#include "core/status.h"
#include "virtio/blk.h"
#include "virtio/vhost.h"

#define QUEUE_SIZE 256
#define TYPES      64 /* PCI has so many ids for modern devices */

#define BIT(n) (1ULL << (n))

/* The queue of commands is not the program's: it only moves frames. */
#define NET_UNSERVED                                                                                                   \
	(BIT(VIRTIO_NET_F_CTRL_VQ) | BIT(VIRTIO_NET_F_CTRL_RX) | BIT(VIRTIO_NET_F_CTRL_VLAN) |                         \
		BIT(VIRTIO_NET_F_CTRL_RX_EXTRA) | BIT(VIRTIO_NET_F_GUEST_ANNOUNCE) | BIT(VIRTIO_NET_F_MQ) |            \
		BIT(VIRTIO_NET_F_CTRL_MAC_ADDR) | BIT(VIRTIO_NET_F_CTRL_GUEST_OFFLOADS) | BIT(VIRTIO_NET_F_STATUS) |   \
		BIT(VIRTIO_NET_F_MAC) | BIT(VIRTIO_NET_F_MTU))

/* Up to write_zeroes_may_unmap, as all programs have it; the features that need more of it are left out. */
#define BLK_CONFIG   60
#define BLK_UNSERVED (BIT(16 /* SECURE_ERASE */) | BIT(17 /* ZONED */))

static const struct virtio_user_kind kinds[] = {
	{ "net", VIRTIO_ID_NET, 0x020000, 0, 2, 2, NET_UNSERVED },
	{ "blk", VIRTIO_ID_BLOCK, 0x010000, BLK_CONFIG, 1, 0, BLK_UNSERVED },
	{ "rng", VIRTIO_ID_RNG, 0x00ff00, 0, 1, 1, 0 },
	{ "scsi", VIRTIO_ID_SCSI, 0x010000, 36, 3, 2, 0 },
	{ "gpu", VIRTIO_ID_GPU, 0x038000, 16, 2, 2, 0 },
	{ "input", VIRTIO_ID_INPUT, 0x098000, 136, 2, 2, 0 },
	{ "vsock", VIRTIO_ID_VSOCK, 0x028000, 8, 3, 3, 0 },
	{ "sound", VIRTIO_ID_SOUND, 0x040100, 12, 4, 4, 0 },
	{ "fs", VIRTIO_ID_FS, 0x018000, sizeof(struct virtio_fs_config), 2, 1, 0 },
	{ "scmi", VIRTIO_ID_SCMI, 0x00ff00, 0, 2, 2, 0 },
	{ "i2c", VIRTIO_ID_I2C_ADAPTER, 0x0c8000, 0, 1, 1, 0 },
	{ "gpio", VIRTIO_ID_GPIO, 0x00ff00, 8, 2, 2, 0 },
};

const char *const virtio_user_names[] = { "net", "blk", "rng", "scsi", "gpu", "input", "vsock", "sound", "fs", "scmi",
	"i2c", "gpio", NULL };
_Static_assert(sizeof(virtio_user_names) / sizeof(virtio_user_names[0]) == sizeof(kinds) / sizeof(kinds[0]) + 1,
	"a name for each kind");

/* One that we start, and what becomes of it: see host/qsd.h. */
struct user_program {
	const char *name;
	int (*connect)(void *state, struct error *err);
	bool (*ended)(void *state, char how[CHILD_HOW]);
	void (*kill)(void *state);
	void (*end)(void *state);
};

static const struct user_program fsd_program = {
	"virtiofsd",
	virtiofsd_connect,
	virtiofsd_ended,
	virtiofsd_kill,
	virtiofsd_end,
};

static const struct user_program qsd_program = {
	QSD_PROGRAM,
	qsd_connect,
	qsd_ended,
	qsd_kill,
	qsd_end,
};

struct virtio_user {
	struct virtio v;
	struct virtio_vhost h;
	const struct virtio_user_options *o;
	const struct user_program *program; /* NULL: it is somebody else's */
	void *state;                        /* the program's: one of these */
	struct virtiofsd fsd;
	struct qsd qsd;
	bool orphan; /* its program has died, and its requests are answered with errors, until its reset */
	uint8_t config[VHOST_USER_CONFIG];
};

static struct virtio_user *user_of(struct virtio *v)
{
	return container_of(v, struct virtio_user, v);
}

/* ---- serving ---- */

static bool user_hand_over(struct virtio *v, unsigned index)
{
	struct virtio_user *u = user_of(v);

	if (u->orphan)
		return false;
	if (u->h.backend)
		vhost_user_let(u->h.backend);
	return virtio_vhost_start(&u->h, index);
}

static void user_quiesce(struct virtio *v, unsigned index)
{
	virtio_vhost_quiesce(&user_of(v)->h, index);
}

static bool user_pause(struct virtio *v, unsigned index)
{
	struct virtio_vhost *h = &user_of(v)->h;

	return (h->backend && vhost_user_hold(h->backend)) || virtio_vhost_pause(h, index);
}

static void user_config_write(struct virtio *v, unsigned offset, unsigned len, const uint8_t *bytes)
{
	virtio_vhost_config_write(&user_of(v)->h, offset, len, bytes);
}

/* FUSE has errors for its requests; some have no answer. */
static void answer_with_error(struct virtio *v, unsigned index, struct virtq_chain *chain)
{
	struct fuse_in_header in = { 0 };
	struct fuse_out_header out = { .len = sizeof(out), .error = -ENOTCONN };

	if (v->type->id == VIRTIO_ID_BLOCK) {
		blk_answer(chain, 0, VIRTIO_BLK_S_IOERR);
		return;
	}
	(void)virtq_read(chain, &in, sizeof(in));
	out.unique = in.unique;
	virtq_push(chain, (uint32_t)virtq_write(chain, &out, chain->in_len < sizeof(out) ? 0 : sizeof(out)));
}

static void user_serve(struct virtio *v, unsigned index)
{
	if (user_of(v)->orphan)
		virtio_take(v, index, answer_with_error);
}

static const char *until_then(const struct virtio_user *u)
{
	if (!u->orphan)
		return "";
	return u->o->kind->id == VIRTIO_ID_FS ? "; the guest gets errors, and files again after its next start"
					      : "; the guest gets I/O errors, and its disk again after its next start";
}

static bool program_gone(struct virtio_vhost *h)
{
	struct virtio_user *u = user_of(h->v);
	char how[CHILD_HOW] = "is gone";
	unsigned left;

	/* Its other queues have met it before. */
	if (u->orphan)
		return true;
	u->orphan = h->serves;
	/* One that only closed its socket still maps the guest's memory. */
	if (u->program && !u->program->ended(u->state, how))
		u->program->kill(u->state);
	left = vhost_user_word(h->backend);
	if (left)
		say(SAY_SOON_MS, "%s: %s %s%s%s", h->v->transport->name, h->backend->name, how, until_then(u),
			left == 1 ? VHOST_USER_LAST : "");
	return u->orphan;
}

static void user_reset(struct virtio *v)
{
	user_of(v)->orphan = false;
}

static void user_counts(struct virtio *v, virtio_count_fn *one, void *arg)
{
	const struct vhost *b = user_of(v)->h.backend;

	one(arg, "losses", b ? __atomic_load_n(&b->losses, __ATOMIC_RELAXED) : 0);
}

/* ---- making one ---- */

static void user_destroy(struct virtio *v)
{
	struct virtio_user *u = user_of(v);

	if (u->h.v)
		virtio_vhost_fini(&u->h);
	else
		virtio_fini(v);
	if (u->program)
		u->program->end(u->state);
	free(u);
}

/* How many queues the device has, by what the program says of itself. 0: too many, or too few, with a line. */
static unsigned count_queues(const struct virtio_user *u, const struct vhost *b, struct error *err)
{
	const struct virtio_user_options *o = u->o;
	const struct virtio_user_kind *kind = o->kind;
	unsigned has = b ? vhost_user_queues(b) : 0, n = o->queues + kind->fixed, most = has ? has : VIRTIO_QUEUES;

	if (!o->queues && has && kind->queues != kind->fixed)
		n = has;
	if (n < kind->queues)
		n = kind->queues;
	if (kind->id == VIRTIO_ID_FS && !o->queues)
		n = kind->queues;
	if (n <= most)
		return n;
	error_set(
		err, -EINVAL, "%s: it has %u queue%s, and the device needs %u", b->name, most, most == 1 ? "" : "s", n);
	return 0;
}

/* The number of queues stands in the config space of some, which may be the program's: these two have to agree. */
static int settle_queues(
	struct virtio_user *u, const struct vhost *b, unsigned *n, uint64_t *features, struct error *err)
{
	struct virtio_blk_config *blk = (struct virtio_blk_config *)(void *)u->config;
	unsigned told = le16toh((uint16_t)blk->num_queues);

	if (u->o->kind->id != VIRTIO_ID_BLOCK || !b)
		return 0;
	if (u->o->queues == 1 || !(*features & BIT(VIRTIO_BLK_F_MQ))) {
		*features &= ~BIT(VIRTIO_BLK_F_MQ);
		*n = 1;
		return 0;
	}
	if (!told || told > *n || (u->o->queues && u->o->queues != told))
		return error_set(err, -EINVAL, "%s: its disk has %u queues, not %u", b->name, told,
			u->o->queues ? u->o->queues : *n);
	*n = told;
	return 0;
}

/* Where the program has no config space: what we know. The length of it. */
static unsigned fill_config(struct virtio_user *u, unsigned queues, uint64_t *ours)
{
	const struct virtio_user_options *o = u->o;
	struct virtio_fs_config *fs = (struct virtio_fs_config *)(void *)u->config;
	static const uint8_t none[6] = { 0 };

	if (o->kind->id == VIRTIO_ID_FS && o->tag) {
		memcpy(fs->tag, o->tag, strnlen(o->tag, USER_FS_TAG));
		fs->num_request_queues = htole32(queues - o->kind->fixed);
		return sizeof(*fs);
	}
	if (o->kind->id == VIRTIO_ID_NET && memcmp(o->mac, none, sizeof(none)) != 0) {
		memcpy(u->config, o->mac, sizeof(o->mac));
		*ours |= BIT(VIRTIO_NET_F_MAC);
		return sizeof(o->mac);
	}
	return 0;
}

static int make(struct virtio_user *u, struct vm *vm, const char *name, struct vhost *b, struct error *err)
{
	const struct virtio_user_options *o = u->o;
	unsigned space = b ? vhost_user_config_len(b) : 0, n = count_queues(u, b, err);
	uint64_t features = 0, ours = 0;
	int r = n ? 0 : -EINVAL;

	if (r == 0 && b)
		r = b->ops->features(b, &features);
	features &= ~o->kind->unserved;
	if (r == 0 && space)
		r = b->ops->config_read(b, 0, space, u->config);
	else if (r == 0)
		space = fill_config(u, n, &ours);
	if (r == 0 && b && o->kind->config_len && !space)
		r = error_set(err, -EINVAL, "%s: it has no config space, which a device of type %s needs", b->name,
			o->kind->name);
	if (r == 0)
		r = settle_queues(u, b, &n, &features, err);
	if (r) {
		vhost_close(b);
		return r;
	}
	virtio_init(&u->v, &o->type, vm, features | ours, u->config, space);
	r = virtio_vhost_init(&u->h, &u->v, b, ours, name, err);
	u->h.gone_for_good = program_gone;
	u->h.serves = o->kind->id == VIRTIO_ID_FS || (u->program && o->kind->id == VIRTIO_ID_BLOCK);
	for (unsigned i = 0; r == 0 && i < n; i++)
		r = virtio_vhost_queue(&u->h, QUEUE_SIZE, err);
	return r;
}

/*
 * What it said when it did not start says more than that it is gone. One that goes on has nothing to bring to an end.
 */
static int blame(struct virtio_user *u, int r, struct error *err)
{
	char how[CHILD_HOW];

	if (!u->program)
		return r;
	if (r == -EINTR || !u->program->ended(u->state, how)) {
		u->program->kill(u->state);
	} else {
		error_set(err, r, "%s %s", u->program->name, how);
		/* Most often the image, or its name, is to blame. */
		if (u->o->qsd.path) {
			err->status = STATUS_USAGE;
			error_prefix(err, r, "disk '%.100s'", u->o->qsd.path);
		}
	}
	return r;
}

static void choose_program(struct virtio_user *u, struct vhost_user_config *host)
{
	if (u->o->fsd.folder) {
		u->program = &fsd_program;
		u->state = &u->fsd;
		u->fsd.config = u->o->fsd;
	} else if (u->o->qsd.path) {
		u->program = &qsd_program;
		u->state = &u->qsd;
		u->qsd.config = u->o->qsd;
		/* It answers out of order, and a request that is never answered hangs who waits for it. */
		host->account = true;
	} else {
		return;
	}
	host->path = u->program->name;
	host->connect = u->program->connect;
	host->revoke = u->program->kill;
	host->arg = u->state;
}

static int user_create(struct vm *vm, const char *name, const void *config, struct virtio **out, struct error *err)
{
	const struct virtio_user_options *o = config;
	struct vhost_user_config host = o->host;
	struct virtio_user *u = calloc(1, sizeof(*u));
	struct vhost *b = NULL;
	int r = 0;

	if (!u)
		return error_set(err, -ENOMEM, "%s: no memory", name);
	u->o = o;
	choose_program(u, &host);
	/* A frame's header has another length in 1.0. */
	host.modern = o->kind->id != VIRTIO_ID_NET && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__;
	if (!o->dry)
		r = vhost_user_open(&host, &b, err);
	r = r ? blame(u, r, err) : make(u, vm, name, b, err);
	if (r) {
		user_destroy(&u->v);
		return error_prefix(err, r, "%s", name);
	}
	*out = &u->v;
	return 0;
}

/* ---- types ---- */

static bool type_number(const char *text, uint16_t *id)
{
	char *end;
	unsigned long n = isdigit((unsigned char)*text) ? strtoul(text, &end, 10) : 0;

	if (!n || n >= TYPES || *end)
		return false;
	*id = (uint16_t)n;
	return true;
}

bool virtio_user_type(struct virtio_user_options *o, const char *text)
{
	uint16_t id = 0;
	bool number = type_number(text, &id);

	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		if (number ? kinds[i].id == id : strcmp(kinds[i].name, text) == 0)
			o->kind = &kinds[i];
	if (!o->kind && !number)
		return false;
	if (!o->kind) {
		snprintf(o->name, sizeof(o->name), "type %u", id);
		o->unknown = (struct virtio_user_kind){ .name = o->name, .id = id, .pci_class = 0x00ff00, .queues = 1 };
		o->kind = &o->unknown;
	}
	o->host.config_len = o->kind == &o->unknown ? VHOST_USER_CONFIG : o->kind->config_len;
	o->type = (struct virtio_type){
		.name = o->kind->name,
		.id = o->kind->id,
		.pci_class = o->kind->pci_class,
		.shares_memory = true,
		.create = user_create,
		.destroy = user_destroy,
		.config_write = user_config_write,
		.hand_over = user_hand_over,
		.serve = user_serve,
		.quiesce = user_quiesce,
		.pause = user_pause,
		.reset = user_reset,
		.counts = user_counts,
	};
	return true;
}

bool virtio_user_has_queues(const struct virtio_user_options *o)
{
	return o->kind->fixed != o->kind->queues;
}
