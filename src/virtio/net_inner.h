/* SPDX-License-Identifier: BSD-2-Clause */
/* net_inner.h - what net.c and net_control.c share, and tests look at. */
#ifndef TRAPLINE_VIRTIO_NET_INNER_H
#define TRAPLINE_VIRTIO_NET_INNER_H

#include <linux/virtio_net.h>

#include "virtio/net.h"
#include "virtio/vhost.h"

#define NET_QUEUE     256  /* descriptors */
#define NET_IOV       1023 /* pieces of a frame that goes out as it lies in guest memory */
#define NET_MAC_TABLE 64   /* addresses; a guest that wants more gets all frames of that kind */
#define NET_VLANS     4096

/* Which frames the guest wants (5.1.6.5.1 to 5.1.6.5.3). Under net->lock. */
struct net_filter {
	bool promisc, allmulti, alluni, nomulti, nouni, nobcast;
	bool all_uni_listed, all_multi_listed; /* its table was too long for ours */
	unsigned nr_macs;
	uint8_t macs[NET_MAC_TABLE][6];
	uint8_t vlans[NET_VLANS / 8];
};

/* Turns in which as many bytes went out, or came in, one after the other, are a transfer. */
#define NET_BULK_BYTES 1024
#define NET_BULK_IN    16384 /* more: an answer may well be longer than a question */
#define NET_BULK_TURNS 8

/* Receive and transmit queue, which one thread serves. What has no other mark is that thread's. */
struct net_pair {
	struct net *net;
	unsigned index;
	struct virtio_worker worker;
	struct loop *loop; /* the worker's */
	struct loop_watch watch;
	struct loop_work update;    /* looks anew at what is to be watched */
	bool receiving, starved;    /* the receive queue is served; the guest has no buffers there */
	bool blocked;               /* the back end takes nothing now */
	unsigned bulk_out, bulk_in; /* turns in a row in which much was sent, or received; see count_turn() */
	const uint8_t *frame;       /* that waits for buffers; the back end's */
	size_t frame_len;
	unsigned nr_chains; /* buffers taken for it; more are needed */
	uint64_t room;      /* their bytes */
	struct virtq_chain *chains[VIRTQ_MAX];
	uint32_t written[VIRTQ_MAX];
	struct iovec iov[VIRTQ_MAX + 1];
	uint8_t *bounce; /* for frames in more pieces than NET_IOV, when there was one */
	/* atomic: frames, and why some were not */
	uint64_t rx_frames, rx_filtered, rx_oversized, rx_unplugged, rx_reset;
	uint64_t gathered; /* frames that the back end has, and has not sent yet */
	uint64_t tx_frames, tx_malformed, tx_oversized, tx_refused, tx_unplugged;
	uint64_t vhost_patient; /* times that the kernel's thread was told to be patient */
};

/* See net_patience.c. The vhost worker's, all of it. */
struct net_patience {
	struct loop_watch timer; /* a timerfd; -1: nobody can tell the kernel's threads anything */
	bool looking;            /* it runs */
	unsigned quiet;          /* looks in a row that saw nothing */
	struct mem_window window;
	struct net_patience_pair {
		struct net *net;
		struct loop_watch kick;  /* of the transmit queue, while the timer does not run */
		uint16_t sent, received; /* indices, at the last look */
		bool patient;            /* the kernel's thread is */
	} pair[NET_PAIRS];
};

struct net {
	struct virtio v; /* first: the two share an address */
	char name[24];
	struct net_backend *host;
	struct vm_link link;
	struct virtio_net_config config;
	uint8_t mac[6];          /* at power-on */
	unsigned pairs;          /* that there are */
	unsigned active;         /* atomic: that the driver uses */
	bool plugged;            /* atomic: the user's wish */
	bool gone;               /* atomic: the back end */
	uint64_t control_errors; /* atomic */
	pthread_mutex_t lock;    /* a leaf: the filter */
	struct net_filter filter;
	struct net_pair *pair[NET_PAIRS];
	bool kernel;               /* it carries the frames, and not we */
	struct virtio_vhost vhost; /* without a back end where we do */
	struct loop_work relink;
	struct net_patience patience;
	struct loop_watch notice; /* of the back end's end, where nobody of ours reads its frames */
};

static inline bool net_link_up(const struct net *net)
{
	return __atomic_load_n(&net->plugged, __ATOMIC_RELAXED) && !__atomic_load_n(&net->gone, __ATOMIC_RELAXED);
}

/*
 * In front of each frame in the guest's buffers (5.1.6.1): old drivers without merged buffers leave the last field out.
 */
static inline size_t net_header_size(const struct net *net)
{
	if (virtio_has(&net->v, VIRTIO_F_VERSION_1) || virtio_has(&net->v, VIRTIO_NET_F_MRG_RXBUF))
		return NET_HEADER;
	return sizeof(struct virtio_net_hdr);
}

static inline void net_count(uint64_t *counter)
{
	__atomic_fetch_add(counter, 1, __ATOMIC_RELAXED);
}

static inline struct virtq *net_queue(struct net *net, unsigned index)
{
	return &net->v.queues[index]->q;
}

/* The control queue's index, with the features that were negotiated (5.1.2). */
static inline unsigned net_control_index(const struct net *net)
{
	return virtio_has(&net->v, VIRTIO_NET_F_MQ) ? 2 * net->pairs : 2;
}

/* The back end has ended, or its end of the wire has: the link goes down, and a line says so, once. From any thread. */
void net_back_end_gone(struct net *net);

/* After virtio_init(): the host's kernel carries the frames of all pairs. 0, or -errno with a line. */
int net_vhost_open(struct net *net, struct error *err) __attribute__((warn_unused_result));
bool net_vhost_hand_over(struct virtio *v, unsigned index);
void net_vhost_link(struct net *net); /* the cable was pulled or plugged in; from any thread */

/* Once the back end is there. 0 or -errno. */
int net_patience_open(struct net *net) __attribute__((warn_unused_result));
void net_patience_close(struct net *net);                 /* when the vhost worker has ended */
void net_patience_begin(struct net *net, unsigned index); /* the back end has queue `index` from now on */

void net_filter_reset(struct net_filter *filter); /* power-on: everything passes */
/* Whether a frame of at least NET_ETHERNET bytes is wanted. `mac`: the device's own. */
bool net_wants(const struct net_filter *filter, const uint8_t mac[6], bool vlans, const uint8_t *frame, size_t len);
void net_serve_control(struct net *net, unsigned index);
/* How many pairs take part from now on. 0 or -errno. */
int net_use_pairs(struct net *net, unsigned pairs);
/* GUEST_* features as the back end is to honour them. 0 or -errno. */
int net_set_offloads(struct net *net, uint64_t features);

#endif
