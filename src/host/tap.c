/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * tap.c - the kernel's tap devices: a network interface of the host's whose other end is ours (Linux,
 * Documentation/networking/tuntap.rst). Frames carry the header of virtio, so checksums and segments are left to who
 * can.
 */
#include "host/net.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <linux/rtnetlink.h>
#include <signal.h>
#include <spawn.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/say.h"

#define TUN_DEVICE "/dev/net/tun"

extern char **environ;

struct tap {
	struct net_backend b;
	bool queues; /* it is of several; then each is attached or not */
	int links;   /* tells of interfaces that were deleted; -1: nobody asked */
	const char *downscript;
	uint8_t in[NET_PAIRS][NET_HEADER + NET_FRAME];
};

static struct tap *tap_of(struct net_backend *b)
{
	return (struct tap *)(void *)b;
}

static ssize_t tap_receive(struct net_backend *b, unsigned pair, const uint8_t **frame)
{
	uint8_t *in = tap_of(b)->in[pair];
	ssize_t n;

	do {
		n = read(b->fds[pair], in, NET_HEADER + NET_FRAME);
	} while (n < 0 && errno == EINTR);
	*frame = in;
	return n < 0 ? -errno : n;
}

static int tap_send(struct net_backend *b, unsigned pair, const struct iovec *iov, unsigned n, size_t bytes)
{
	ssize_t sent;

	do {
		sent = writev(b->fds[pair], iov, (int)n);
	} while (sent < 0 && errno == EINTR);
	/* EIO: the interface is down, as a cable may be. EBADFD: it was deleted. */
	if (sent < 0)
		return errno == EBADFD ? -EPIPE : -errno;
	return 0;
}

static int tap_attach(struct net_backend *b, unsigned pair, bool on)
{
	struct ifreq ifr = { .ifr_flags = on ? IFF_ATTACH_QUEUE : IFF_DETACH_QUEUE };

	if (!tap_of(b)->queues || ioctl(b->fds[pair], TUNSETQUEUE, &ifr) == 0)
		return 0;
	/* What it is already. */
	return errno == EINVAL ? 0 : -errno;
}

static int tap_offloads(struct net_backend *b, unsigned tun)
{
	return ioctl(b->fds[0], TUNSETOFFLOAD, (unsigned long)tun) ? -errno : 0;
}

static int tap_header(struct net_backend *b, unsigned size)
{
	int arg = (int)size, r = 0;

	for (unsigned i = 0; r == 0 && i < b->pairs; i++)
		r = ioctl(b->fds[i], TUNSETVNETHDRSZ, &arg) ? -errno : 0;
	return r;
}

/*
 * The kernel tells only readers that the interface was deleted: poll's events for it are those of a frame. Who does not
 * read hears of it by rtnetlink (rtnetlink(7)), which tells of all interfaces of our network namespace, so not of a
 * descriptor's that was opened in another one.
 */
static int tap_notice(struct net_backend *b)
{
	/*
	 * Of messages only what their header's type, 16 bits of the host's order after
	 * 32 of the length, says to be a deletion.
	 */
	struct sock_filter deletions[] = {
		BPF_STMT(BPF_LD | BPF_H | BPF_ABS, offsetof(struct nlmsghdr, nlmsg_type)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, htobe16(RTM_DELLINK), 0, 1),
		BPF_STMT(BPF_RET | BPF_K, UINT32_MAX),
		BPF_STMT(BPF_RET | BPF_K, 0),
	};
	const struct sock_fprog filter = { .len = sizeof(deletions) / sizeof(deletions[0]), .filter = deletions };
	const struct sockaddr_nl address = { .nl_family = AF_NETLINK, .nl_groups = RTMGRP_LINK };
	struct tap *tap = tap_of(b);
	int r;

	if (tap->links >= 0)
		return tap->links;
	tap->links = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE);
	if (tap->links < 0)
		return -errno;
	if (setsockopt(tap->links, SOL_SOCKET, SO_ATTACH_FILTER, &filter, sizeof(filter)) == 0 &&
		bind(tap->links, (const struct sockaddr *)&address, sizeof(address)) == 0)
		return tap->links;
	r = -errno;
	close(tap->links);
	tap->links = -1;
	return r;
}

static bool tap_gone(struct net_backend *b)
{
	struct ifreq ifr = { .ifr_flags = 0 };
	char message[64];

	/* Which one it is is not read, as others may be missing (ENOBUFS): the descriptor knows of its own. */
	while (recv(tap_of(b)->links, message, sizeof(message), 0) >= 0 || errno == EINTR || errno == ENOBUFS)
		;
	return ioctl(b->fds[0], TUNGETIFF, &ifr) && errno == EBADFD;
}

/* `script NAME`, waited for. 0, or -errno with a line in `err`. */
static int run_script(const char *script, const char *ifname, struct error *err)
{
	char *argv[] = { (char *)(uintptr_t)script, (char *)(uintptr_t)ifname, NULL };
	posix_spawnattr_t attr;
	sigset_t none;
	int status = 0, r;
	pid_t pid;

	sigemptyset(&none);
	posix_spawnattr_init(&attr);
	posix_spawnattr_setsigmask(&attr, &none);
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK);
	r = posix_spawnp(&pid, script, NULL, &attr, argv, environ);
	posix_spawnattr_destroy(&attr);
	if (r)
		return error_of_option(err, error_set(err, -r, "script '%s': %s", script, strerror(r)));
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return 0;
	return error_set(err, -EIO, "script '%s' failed for %s, with %s %d", script, ifname,
		WIFEXITED(status) ? "status" : "signal", WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status));
}

static void tap_close(struct net_backend *b)
{
	struct tap *tap = tap_of(b);
	struct error err = { .status = 0 };

	/* As long as the interface is there. */
	if (tap->downscript && run_script(tap->downscript, b->name, &err))
		say(SAY_MS, "%s", err.text);
	for (unsigned i = 0; i < NET_PAIRS; i++) {
		if (b->fds[i] >= 0)
			close(b->fds[i]);
	}
	if (tap->links >= 0)
		close(tap->links);
	free(tap);
}

static const struct net_ops tap_ops = {
	.receive = tap_receive,
	.send = tap_send,
	.attach = tap_attach,
	.offloads = tap_offloads,
	.notice = tap_notice,
	.gone = tap_gone,
	.header = tap_header,
	.close = tap_close,
};

static int open_device(struct error *err)
{
	int fd = open(TUN_DEVICE, O_RDWR | O_CLOEXEC | O_NONBLOCK);

	if (fd >= 0)
		return fd;
	error_set(err, -errno, "%s: %s", TUN_DEVICE, strerror(errno));
	if (errno == ENOENT || errno == ENODEV || errno == ENXIO)
		error_hint(err, "modprobe tun; or --network user, which needs no device");
	else if (errno == EACCES || errno == EPERM)
		error_hint(err, "'--network user' needs no permission");
	return -errno;
}

static int set_failed(const char *ifname, int code, struct error *err)
{
	const char *name = *ifname ? ifname : "a tap device";

	error_set(err, -code, "%s: %s", name, strerror(code));
	if (code == EPERM)
		error_hint(err,
			"an administrator makes one for you: ip tuntap add dev %s mode tap user $USER; or "
			"--network user, which needs no permission",
			*ifname ? ifname : "tap0");
	else if (code == EBUSY)
		error_hint(err, "another program has it; give this guest another ifname=");
	else if (code == EINVAL)
		error_hint(err,
			"an interface of that name is there, and is no tap device or, with queues=, was made without "
			"multi_queue");
	return -code;
}

/* One more descriptor of the interface `name`, which the first call makes or finds, and fills in. */
static int add_queue(struct tap *tap, char name[IFNAMSIZ], unsigned pair, bool many, struct error *err)
{
	struct ifreq ifr = { .ifr_flags = (short)(IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | (many ? IFF_MULTI_QUEUE : 0)) };
	int fd = open_device(err);

	if (fd < 0)
		return fd;
	tap->b.fds[pair] = fd;
	memcpy(ifr.ifr_name, name, IFNAMSIZ);
	if (ioctl(fd, TUNSETIFF, &ifr))
		return set_failed(name, errno, err);
	memcpy(name, ifr.ifr_name, IFNAMSIZ);
	return 0;
}

static int take_fd(struct tap *tap, const struct net_config *config, char name[IFNAMSIZ], struct error *err)
{
	struct ifreq ifr = { .ifr_flags = 0 };
	int fd = config->fd, flags = fcntl(fd, F_GETFL);

	if (flags < 0 || ioctl(fd, TUNGETIFF, &ifr)) {
		error_set(err, -EINVAL, "fd=%d: %s", fd, flags < 0 ? strerror(errno) : "not of a tap device");
		error_hint(err, "whoever starts trapline opens it and leaves it open across exec");
		return error_of_option(err, -EINVAL);
	}
	if (!(ifr.ifr_flags & IFF_TAP) || !(ifr.ifr_flags & IFF_NO_PI) || !(ifr.ifr_flags & IFF_VNET_HDR))
		return error_set(err, -EINVAL, "fd=%d: %s is not IFF_TAP | IFF_NO_PI | IFF_VNET_HDR", fd, ifr.ifr_name);
	tap->b.fds[0] = fd;
	tap->queues = ifr.ifr_flags & IFF_MULTI_QUEUE;
	memcpy(name, ifr.ifr_name, IFNAMSIZ);
	if (fcntl(fd, F_SETFL, flags | O_NONBLOCK) || fcntl(fd, F_SETFD, FD_CLOEXEC))
		return error_set(err, -errno, "fd=%d: %s", fd, strerror(errno));
	return 0;
}

/* Brings the interface up, unless that is the script's or was somebody's work, and learns its MTU. */
static int set_up(struct tap *tap, const struct net_config *config, struct error *err)
{
	int s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), r = 0;
	struct ifreq ifr = { .ifr_flags = 0 };

	if (s < 0)
		return error_set(err, -errno, "no socket: %s", strerror(errno));
	memcpy(ifr.ifr_name, tap->b.name, IFNAMSIZ - 1);
	if (config->script)
		r = run_script(config->script, tap->b.name, err);
	else if (ioctl(s, SIOCGIFFLAGS, &ifr) == 0 && !(ifr.ifr_flags & IFF_UP)) {
		ifr.ifr_flags |= IFF_UP;
		if (ioctl(s, SIOCSIFFLAGS, &ifr)) {
			r = error_set(err, -errno, "%s cannot be brought up: %s", tap->b.name, strerror(errno));
			error_hint(err, "an administrator does it: ip link set %s up", tap->b.name);
		}
	}
	if (r == 0 && ioctl(s, SIOCGIFMTU, &ifr) == 0 && ifr.ifr_mtu > 0)
		tap->b.mtu = (unsigned)ifr.ifr_mtu;
	close(s);
	return r;
}

static int set_headers(struct tap *tap, struct error *err)
{
	for (unsigned i = 0; i < tap->b.pairs; i++) {
		const int size = NET_HEADER, little = 1;

		if (ioctl(tap->b.fds[i], TUNSETVNETHDRSZ, &size) || ioctl(tap->b.fds[i], TUNSETVNETLE, &little) ||
			ioctl(tap->b.fds[i], TUNSETOFFLOAD, 0UL))
			return error_set(err, -errno, "%s: no headers of virtio: %s", tap->b.name, strerror(errno));
		/* The guest's driver asks for more than the first when it is there. */
		if (i && tap_attach(&tap->b, i, false))
			return error_set(err, -errno, "%s: queues cannot be detached", tap->b.name);
	}
	return 0;
}

static int tap_fill(struct tap *tap, const struct net_config *config, struct error *err)
{
	char name[IFNAMSIZ] = "";
	int r = 0;

	if (config->ifname && strlen(config->ifname) >= IFNAMSIZ) {
		error_set(err, -EINVAL, "ifname=%s: the name of an interface has %d characters at most", config->ifname,
			IFNAMSIZ - 1);
		return error_of_option(err, -EINVAL);
	}
	if (config->ifname)
		snprintf(name, sizeof(name), "%s", config->ifname);
	if (config->fd >= 0)
		r = take_fd(tap, config, name, err);
	else
		tap->queues = config->pairs > 1;
	for (unsigned i = 0; r == 0 && config->fd < 0 && i < tap->b.pairs; i++)
		r = add_queue(tap, name, i, tap->queues, err);
	if (r)
		return r;
	snprintf(tap->b.name, sizeof(tap->b.name), "%s", name);
	r = set_headers(tap, err);
	if (r == 0)
		r = set_up(tap, config, err);
	if (r == 0)
		tap->downscript = config->downscript;
	return r;
}

int tap_open(const struct net_config *config, struct net_backend **out, struct error *err)
{
	struct tap *tap = malloc(sizeof(*tap));
	int r;

	if (!tap)
		return error_set(err, -ENOMEM, "no memory");
	/* Not the buffers: pages that no frame reaches are never there. */
	memset(tap, 0, offsetof(struct tap, in));
	tap->b.ops = &tap_ops;
	tap->b.pairs = config->pairs;
	tap->b.vnet = tap->b.holds = true;
	tap->links = -1;
	for (unsigned i = 0; i < NET_PAIRS; i++)
		tap->b.fds[i] = -1;
	r = tap_fill(tap, config, err);
	if (r) {
		tap_close(&tap->b);
		return r;
	}
	*out = &tap->b;
	return 0;
}
