/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * net.h - what a network device talks to on the host: a tap, passt, a stream socket. Frames in, frames out.
 *
 * A back end has one or more pairs (of queues), each with a descriptor that epoll watches. All calls for a pair come
 * from one thread; pairs are independent of each other. Nothing here waits once it is open.
 */
#ifndef TRAPLINE_HOST_NET_H
#define TRAPLINE_HOST_NET_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "core/error.h"
#include "host/child.h"

#define NET_PAIRS 8
/* The longest frame: 65,535 bytes of IP, its Ethernet header, a tag of 802.1Q. */
#define NET_FRAME    (65535 + 14 + 4)
#define NET_ETHERNET 14    /* the shortest: nothing but its header */
#define NET_USER_MTU 65520 /* passt's, where it is told no other */
/* What stands before a frame where `vnet` is true: struct virtio_net_hdr_v1 or, of the same size, hdr_mrg_rxbuf. */
#define NET_HEADER 12

enum net_kind { NET_USER, NET_TAP, NET_SOCKET };

struct net_config {
	enum net_kind kind;
	/* TAP: one of these names it; neither: made, and the kernel chooses a name. */
	const char *ifname;
	int fd; /* open, by whoever started us; -1: none. Taken over */
	const char *script, *downscript;
	unsigned pairs;        /* TAP: at most NET_PAIRS */
	const char *path;      /* SOCKET */
	const char *tcp, *udp; /* USER: ports to forward, as passt's -t and -u have them; NULL: none */
	unsigned mtu;          /* USER: what passt tells the guest, from 68 on; 0: NET_USER_MTU */
	bool dry;              /* touches nothing of the host's: no frame comes, and those sent vanish */
};

struct net_backend;

struct net_ops {
	/*
	 * The next frame, which stands at *frame until the next call for this pair: its bytes, with NET_HEADER of them
	 * in front where `vnet` is true. -EAGAIN: none now, EPOLLIN tells when. Else it is gone for good.
	 */
	ssize_t (*receive)(struct net_backend *b, unsigned pair, const uint8_t **frame);
	/*
	 * Sends `bytes` in n pieces, n at most IOV_MAX. 0. -EAGAIN: not now, EPOLLOUT tells when. -EPIPE: gone for
	 * good. Else this one was refused.
	 */
	int (*send)(struct net_backend *b, unsigned pair, const struct iovec *iov, unsigned n, size_t bytes);
	/* Sends what send() has kept, of frames or all of them. 0 or -EAGAIN: the same. NULL: keeps nothing. */
	int (*flush)(struct net_backend *b, unsigned pair);
	/* Whether a pair takes part; pair 0 always does. From any thread. NULL where there is only one. */
	int (*attach)(struct net_backend *b, unsigned pair, bool on);
	/* TUN_F_*: what frames that come may leave undone. From any thread. NULL where `vnet` is false. */
	int (*offloads)(struct net_backend *b, unsigned tun);
	/*
	 * Once it is gone: how that came, for the user, in a text such as "killed by signal 9 (Killed)". False: nothing
	 * is known. May wait a second. NULL: nothing ever is.
	 */
	bool (*why)(struct net_backend *b, char how[CHILD_HOW]);
	/*
	 * For who lets somebody else carry the frames: a descriptor of the back end's, or -errno. When EPOLLIN tells of
	 * it, gone() takes what it tells, and says whether the back end is gone for good. NULL: nothing tells.
	 */
	int (*notice)(struct net_backend *b);
	bool (*gone)(struct net_backend *b);
	/* The size of that header is so, for somebody else who reads and writes: 10 or NET_HEADER. NULL: likewise. */
	int (*header)(struct net_backend *b, unsigned size);
	void (*close)(struct net_backend *b); /* frees */
};

struct net_backend {
	const struct net_ops *ops;
	int fds[NET_PAIRS]; /* for epoll; -1: nothing ever comes */
	unsigned pairs;
	bool vnet;      /* NET_HEADER bytes of offloads stand before each frame */
	bool holds;     /* frames that are not read wait, and hold up who sends them; else some may be dropped */
	unsigned mtu;   /* 0: not known */
	char name[128]; /* for messages: "tap0", "passt", "socket '/tmp/net'" */
};

/* 0, or -errno with a line in `err`. `device`: who it is for, "net0". */
int net_open(const struct net_config *config, const char *device, struct net_backend **out, struct error *err)
	__attribute__((warn_unused_result));
void net_close(struct net_backend *b); /* NULL is fine */

/* Each kind's own. */
int tap_open(const struct net_config *config, struct net_backend **out, struct error *err);
int passt_open(const struct net_config *config, struct net_backend **out, struct error *err);
int netsock_open(const char *path, struct net_backend **out, struct error *err);
/* Takes fd, a connected stream socket: frames with a length of 4 bytes, big-endian, before each. 0 or -ENOMEM. */
int netsock_wrap(int fd, const char *name, struct net_backend **out);

#endif
