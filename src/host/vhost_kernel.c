/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * vhost_kernel.c - queues that the host's kernel serves: the ioctls of <linux/vhost.h>.
 *
 * Each device node takes a number of rings, told where they lie in this process, and begins and ends to serve them by
 * an ioctl of its own: a network a ring at a time, vsock both at once, SCSI all that there are. What begins a ring
 * reads its used index; what ends it returns when nothing of it is in flight.
 */
#include "host/vhost_kernel.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/vhost.h>
#include <linux/virtio_config.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define BIT(n) (1ULL << (n))

#define KTHREADD 2  /* the parent of the kernel's threads */
#define NEWEST   64 /* threads of the system among which those that have just been made are looked for */

/* Bits that speak of the interface, not of a virtio device. 27 is ANY_LAYOUT elsewhere, which is always so here. */
#define NOT_VIRTIO (BIT(VHOST_F_LOG_ALL) | BIT(VHOST_NET_F_VIRTIO_NET_HDR) | BIT(VIRTIO_F_ACCESS_PLATFORM))

struct kernel;

struct kind {
	const char *node, *module;
	const char *who; /* may open the node */
	unsigned rings;  /* of one descriptor; 0: all */
	/* Ring `index` of the device has been set up, or is to end. 0 or -errno. */
	int (*run)(struct kernel *k, unsigned index, bool on);
	/*
	 * Instead, where a ring can only change while none runs: all halt, and those that are set up go on. Likewise.
	 */
	int (*halt)(struct kernel *k);
	int (*go)(struct kernel *k);
};

struct kernel {
	struct vhost b; /* first */
	const struct kind *kind;
	int fds[VHOST_PAIRS];
	pid_t threads[VHOST_PAIRS]; /* who serves each, a network's; 0: not known, or not for us to schedule */
	unsigned nr_fds;
	struct vhost_map map;
	uint64_t set_up; /* rings */
	int kicks[64];   /* of those */
	bool running;    /* where all run at once */
	int taps[VHOST_PAIRS];
	struct vhost_scsi_target target;
};

static struct kernel *kernel_of(struct vhost *b)
{
	return (struct kernel *)(void *)b;
}

static int call(int fd, unsigned long request, const void *arg)
{
	int r;

	do {
		r = ioctl(fd, request, arg);
	} while (r < 0 && errno == EINTR);
	return r < 0 ? -errno : 0;
}

/* Whose ring it is, and its number there. */
static int fd_of(const struct kernel *k, unsigned index, unsigned *ring)
{
	unsigned each = k->kind->rings;

	*ring = each ? index % each : index;
	return k->fds[each ? index / each : 0];
}

/* ---- what each kind does of its own ---- */

static int run_net(struct kernel *k, unsigned index, bool on)
{
	struct vhost_vring_file file = { .fd = on ? k->taps[index / 2] : -1 };
	int fd = fd_of(k, index, &file.index);

	return call(fd, VHOST_NET_SET_BACKEND, &file);
}

static int run_vsock(struct kernel *k, unsigned index, bool on)
{
	int run = on && k->set_up == 3, r;

	if (run == k->running)
		return 0;
	r = call(k->fds[0], VHOST_VSOCK_SET_RUNNING, &run);
	if (r == 0)
		k->running = run;
	return r;
}

static int halt_scsi(struct kernel *k)
{
	int r = k->running ? call(k->fds[0], VHOST_SCSI_CLEAR_ENDPOINT, &k->target) : 0;

	if (r == 0)
		k->running = false;
	return r;
}

/* With the first ring of requests, behind those for control and events. */
static int go_scsi(struct kernel *k)
{
	int r;

	if (!(k->set_up & ~3ULL))
		return 0;
	r = call(k->fds[0], VHOST_SCSI_SET_ENDPOINT, &k->target);
	k->running = r == 0;
	/* A kick that came while there was no target was taken for nothing. */
	for (unsigned i = 0; r == 0 && i < 64; i++)
		if (k->set_up >> i & 1)
			(void)eventfd_write(k->kicks[i], 1);
	return r;
}

static const struct kind kind_net = { "/dev/vhost-net", "vhost_net", "group kvm", 2, run_net };
static const struct kind kind_vsock = { "/dev/vhost-vsock", "vhost_vsock", "group kvm", 2, run_vsock };
static const struct kind kind_scsi = { "/dev/vhost-scsi", "vhost_scsi", "root", 0, NULL, halt_scsi, go_scsi };

/* ---- the interface ---- */

static int get_features(struct vhost *b, uint64_t *features)
{
	struct kernel *k = kernel_of(b);
	__u64 bits = 0;
	int r = call(k->fds[0], VHOST_GET_FEATURES, &bits);

	if (r == 0)
		*features = (bits & ~NOT_VIRTIO) | BIT(VIRTIO_F_ANY_LAYOUT);
	return r;
}

static int set_memory(struct kernel *k)
{
	struct vhost_memory *memory = calloc(1, sizeof(*memory) + k->map.n * sizeof(memory->regions[0]));
	int r = 0;

	if (!memory)
		return -ENOMEM;
	memory->nregions = k->map.n;
	for (unsigned i = 0; i < k->map.n; i++) {
		memory->regions[i].guest_phys_addr = k->map.range[i].gpa;
		memory->regions[i].memory_size = k->map.range[i].len;
		memory->regions[i].userspace_addr = (uintptr_t)k->map.range[i].host;
	}
	for (unsigned i = 0; r == 0 && i < k->nr_fds; i++)
		r = call(k->fds[i], VHOST_SET_MEM_TABLE, memory);
	free(memory);
	return r;
}

static int kernel_start(struct vhost *b, uint64_t features, const struct vhost_range *ranges, unsigned n)
{
	struct kernel *k = kernel_of(b);
	__u64 bits = features & ~NOT_VIRTIO;
	int r = vhost_map_set(&k->map, ranges, n);

	for (unsigned i = 0; r == 0 && i < k->nr_fds; i++)
		r = call(k->fds[i], VHOST_SET_FEATURES, &bits);
	if (r == 0)
		r = set_memory(k);
	/* What the host refuses here is no driver's doing. */
	return r == -EINVAL || r == -EFAULT ? -EIO : r;
}

static int kernel_stop(struct vhost *b)
{
	struct kernel *k = kernel_of(b);

	k->map.n = 0;
	return set_memory(k);
}

static int set_file(int fd, unsigned long request, unsigned ring, int file)
{
	const struct vhost_vring_file arg = { .index = ring, .fd = file };

	return call(fd, request, &arg);
}

static void forget_files(int fd, unsigned n)
{
	(void)set_file(fd, VHOST_SET_VRING_KICK, n, -1);
	(void)set_file(fd, VHOST_SET_VRING_CALL, n, -1);
	(void)set_file(fd, VHOST_SET_VRING_ERR, n, -1);
}

static int set_ring(struct kernel *k, int fd, unsigned n, const struct vhost_ring *ring)
{
	const struct vhost_vring_state size = { n, ring->size }, base = { n, ring->avail };
	struct vhost_vring_addr addr = { .index = n };
	struct vhost_parts parts;
	int r = vhost_map_ring(&k->map, ring, false, &parts);

	if (r)
		return r;
	addr.desc_user_addr = (uintptr_t)parts.desc;
	addr.avail_user_addr = (uintptr_t)parts.driver;
	addr.used_user_addr = (uintptr_t)parts.device;
	r = call(fd, VHOST_SET_VRING_NUM, &size);
	if (r == 0)
		r = call(fd, VHOST_SET_VRING_BASE, &base);
	if (r == 0)
		r = call(fd, VHOST_SET_VRING_ADDR, &addr);
	if (r == 0)
		r = set_file(fd, VHOST_SET_VRING_CALL, n, ring->call);
	if (r == 0)
		r = set_file(fd, VHOST_SET_VRING_ERR, n, ring->error);
	return r ? r : set_file(fd, VHOST_SET_VRING_KICK, n, ring->kick);
}

static int kernel_start_ring(struct vhost *b, unsigned index, const struct vhost_ring *ring)
{
	struct kernel *k = kernel_of(b);
	unsigned n;
	int fd = fd_of(k, index, &n), r = k->kind->halt ? k->kind->halt(k) : 0;

	if (r == 0)
		r = set_ring(k, fd, n, ring);
	if (r == 0) {
		k->set_up |= BIT(index);
		k->kicks[index] = ring->kick;
		r = k->kind->run ? k->kind->run(k, index, true) : k->kind->go(k);
	}
	if (r) {
		k->set_up &= ~BIT(index);
		forget_files(fd, n);
		/* The others are not to stand still for it. */
		if (k->kind->go && !k->running)
			(void)k->kind->go(k);
	}
	return r;
}

static int kernel_stop_ring(struct vhost *b, unsigned index, struct vhost_ring *ring)
{
	struct kernel *k = kernel_of(b);
	struct vhost_vring_state base;
	int fd = fd_of(k, index, &base.index), r;

	r = k->kind->run ? k->kind->run(k, index, false) : k->kind->halt(k);
	if (r == 0)
		r = call(fd, VHOST_GET_VRING_BASE, &base);
	if (r == 0)
		ring->avail = (uint16_t)base.num;
	k->set_up &= ~BIT(index);
	forget_files(fd, base.index);
	/* Of the others this tells nothing. */
	if (k->kind->go)
		(void)k->kind->go(k);
	return r;
}

static int kernel_be_patient(struct vhost *b, unsigned index, bool yes)
{
	const struct sched_param none = { 0 };
	const struct kernel *k = kernel_of(b);
	pid_t thread = k->kind->rings ? k->threads[index / k->kind->rings] : 0;
	int now = thread ? sched_getscheduler(thread) : -1;

	if (!thread)
		return -ENOTSUP;
	/* Whoever has scheduled it in some other way meanwhile has the last word. */
	if (now != (yes ? SCHED_OTHER : SCHED_BATCH))
		return yes ? -EBUSY : 0;
	return sched_setscheduler(thread, yes ? SCHED_BATCH : SCHED_OTHER, &none) ? -errno : 0;
}

static void kernel_close(struct vhost *b)
{
	struct kernel *k = kernel_of(b);

	for (unsigned i = 0; i < k->nr_fds; i++)
		close(k->fds[i]);
	free(k);
}

static const struct vhost_ops kernel_ops = {
	.features = get_features,
	.start = kernel_start,
	.start_ring = kernel_start_ring,
	.stop_ring = kernel_stop_ring,
	.stop = kernel_stop,
	.be_patient = kernel_be_patient,
	.close = kernel_close,
};

/* ---- opening ---- */

static int open_node(const struct kind *kind, struct error *err)
{
	int fd = open(kind->node, O_RDWR | O_CLOEXEC), r;

	if (fd < 0) {
		r = error_set(err, -errno, "%s: %s", kind->node, strerror(errno));
		if (r == -ENOENT || r == -ENODEV || r == -ENXIO)
			error_hint(err, "modprobe %s", kind->module);
		else if (r == -EACCES || r == -EPERM)
			error_hint(err, "it is for %s; 'ls -l %s' says for whom here", kind->who, kind->node);
		return r;
	}
	r = call(fd, VHOST_SET_OWNER, NULL);
	if (r) {
		close(fd);
		return error_set(err, r, "%s: no thread in the kernel: %s", kind->node, strerror(-r));
	}
	return fd;
}

static int open_kernel(const struct kind *kind, unsigned n, struct kernel **out, struct error *err)
{
	struct kernel *k = calloc(1, sizeof(*k));

	if (!k)
		return error_set(err, -ENOMEM, "no memory");
	k->b.ops = &kernel_ops;
	k->kind = kind;
	snprintf(k->b.name, sizeof(k->b.name), "%s", kind->node);
	while (k->nr_fds < n) {
		int fd = open_node(kind, err);

		if (fd < 0) {
			kernel_close(&k->b);
			return fd;
		}
		k->fds[k->nr_fds++] = fd;
	}
	*out = k;
	return 0;
}

/* The first bytes of a file of /proc, as text; empty: there is none. */
static void proc_text(char *text, size_t size, const char *format, ...)
{
	char path[64];
	ssize_t n;
	va_list ap;
	int fd;

	va_start(ap, format);
	vsnprintf(path, sizeof(path), format, ap);
	va_end(ap);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? 0 : read(fd, text, size - 1);
	text[n < 0 ? 0 : n] = '\0';
	if (fd >= 0)
		close(fd);
}

/*
 * Whether `pid` is a thread that serves a device of ours. Since Linux 6.4 such a thread is one of this process; before,
 * it is the kernel's, and named for the thread that has asked for it. No other process's name will do.
 */
static bool serves_us(pid_t pid)
{
	char text[64], wanted[64], state;
	int parent, n;

	proc_text(text, sizeof(text), "/proc/self/task/%d/comm", pid);
	if (*text)
		return strncmp(text, "vhost-", 6) == 0;
	n = snprintf(wanted, sizeof(wanted), "%d (vhost-%d) ", pid, gettid());
	proc_text(text, sizeof(text), "/proc/%d/stat", pid);
	return strncmp(text, wanted, (size_t)n) == 0 && sscanf(text + n, "%c %d", &state, &parent) == 2 &&
	       parent == KTHREADD;
}

/*
 * The kernel tells nobody which thread it has made for a device. They are among the newest of the system, just now. A
 * thread that somebody has scheduled in some way of theirs stays as it is; so do all where one is not found, or not for
 * us to schedule, for which it takes root (CAP_SYS_NICE) before Linux 6.4.
 */
static void find_threads(struct kernel *k)
{
	const struct sched_param none = { 0 };
	unsigned left = k->nr_fds;
	char text[64], *newest;
	pid_t last;

	proc_text(text, sizeof(text), "/proc/loadavg");
	newest = strrchr(text, ' ');
	last = newest ? atoi(newest) : 0;
	for (pid_t pid = last; left && pid > 0 && pid > last - NEWEST; pid--) {
		if (!serves_us(pid))
			continue;
		k->threads[--left] = pid;
		if (sched_getscheduler(pid) != SCHED_OTHER || sched_setscheduler(pid, SCHED_OTHER, &none)) {
			left = k->nr_fds;
			break;
		}
	}
	if (left)
		memset(k->threads, 0, sizeof(k->threads));
}

int vhost_net_open(const int *taps, unsigned pairs, struct vhost **out, struct error *err)
{
	struct kernel *k;
	int r = open_kernel(&kind_net, pairs, &k, err);

	if (r)
		return r;
	memcpy(k->taps, taps, pairs * sizeof(*taps));
	find_threads(k);
	*out = &k->b;
	return 0;
}

int vhost_vsock_open(uint32_t cid, struct vhost **out, struct error *err)
{
	const __u64 wanted = cid;
	struct kernel *k;
	int r = open_kernel(&kind_vsock, 1, &k, err);

	if (r)
		return r;
	r = call(k->fds[0], VHOST_VSOCK_SET_GUEST_CID, &wanted);
	if (r) {
		kernel_close(&k->b);
		if (r == -EADDRINUSE) {
			error_set(err, r, "CID %u is another guest's of this host", cid);
			error_hint(err, "give this one another number");
			return r;
		}
		return error_set(err, r, "CID %u: %s", cid, strerror(-r));
	}
	*out = &k->b;
	return 0;
}

/* As the kernel's configfs has them: 16 hexadecimal digits. */
bool vhost_scsi_wwpn(const char *wwpn)
{
	return strncmp(wwpn, "naa.", 4) == 0 && strlen(wwpn) == 20 && strspn(wwpn + 4, "0123456789abcdef") == 16;
}

/* A target that is not there is told now, and not when the guest comes to it. */
static int try_target(struct kernel *k, const char *wwpn, struct error *err)
{
	int version = 0, r = call(k->fds[0], VHOST_SCSI_GET_ABI_VERSION, &version);

	if (r == 0 && version > VHOST_SCSI_ABI_VERSION)
		return error_set(
			err, -ENOTSUP, "%s speaks version %d, not %d", k->kind->node, version, VHOST_SCSI_ABI_VERSION);
	/* Rings without memory are refused before the name is looked at; none of either will do. */
	if (r == 0)
		r = set_memory(k);
	if (r == 0)
		r = call(k->fds[0], VHOST_SCSI_SET_ENDPOINT, &k->target);
	if (r == 0)
		return call(k->fds[0], VHOST_SCSI_CLEAR_ENDPOINT, &k->target);
	error_set(err, r, "wwpn=%s: %s", wwpn,
		r == -ENODEV || r == -ENOENT  ? "there is no such target"
		: r == -EEXIST || r == -EBUSY ? "another guest has this target"
					      : strerror(-r));
	if (r == -ENODEV || r == -ENOENT)
		error_hint(
			err, "an administrator makes one: targetcli /vhost create %s; then luns below its tpg1", wwpn);
	return r;
}

int vhost_scsi_open(const char *wwpn, struct vhost **out, struct error *err)
{
	struct kernel *k;
	int r = open_kernel(&kind_scsi, 1, &k, err);

	if (r)
		return r;
	k->target.abi_version = VHOST_SCSI_ABI_VERSION;
	snprintf(k->target.vhost_wwpn, sizeof(k->target.vhost_wwpn), "%s", wwpn);
	r = try_target(k, wwpn, err);
	if (r) {
		kernel_close(&k->b);
		return r;
	}
	*out = &k->b;
	return 0;
}
