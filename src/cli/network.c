/* SPDX-License-Identifier: BSD-2-Clause */
/* network.c - what --network says, checked as far as the host need not be asked. */
#include "cli/network.h"

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "core/word.h"
#include "host/ports.h"
#include "virtio/net.h"

#define MTU_LEAST 68 /* of IPv4; what the specification asks for */
#define MTU_MOST  65535

enum {
	KEY_TRANS,
	KEY_TAPIF,
	KEY_GUEST_MAC,
	KEY_MAC,
	KEY_MTU,
	KEY_TCP,
	KEY_UDP,
	KEY_VHOST,
	KEY_IFNAME,
	KEY_FD,
	KEY_SCRIPT,
	KEY_DOWNSCRIPT,
	KEY_QUEUES,
	NR_KEYS
};

static const struct device_key keys[] = {
	[KEY_TRANS] = { "trans", false },
	[KEY_TAPIF] = { "tapif", false },
	[KEY_GUEST_MAC] = { "guest_mac", false },
	[KEY_MAC] = { "mac", false },
	[KEY_MTU] = { "mtu", false },
	[KEY_TCP] = { "tcp", false },
	[KEY_UDP] = { "udp", false },
	[KEY_VHOST] = { "vhost", true },
	[KEY_IFNAME] = { "ifname", false },
	[KEY_FD] = { "fd", false },
	[KEY_SCRIPT] = { "script", false },
	[KEY_DOWNSCRIPT] = { "downscript", false },
	[KEY_QUEUES] = { "queues", false },
	[NR_KEYS] = { NULL, false },
};

/* Which kind a key goes with; of others: all. */
static const struct {
	unsigned key;
	enum net_kind kind;
	const char *word;
} belongs[] = {
	{ KEY_TCP, NET_USER, "user" },
	{ KEY_UDP, NET_USER, "user" },
	{ KEY_VHOST, NET_TAP, "tap" },
	{ KEY_IFNAME, NET_TAP, "tap" },
	{ KEY_FD, NET_TAP, "tap" },
	{ KEY_SCRIPT, NET_TAP, "tap" },
	{ KEY_DOWNSCRIPT, NET_TAP, "tap" },
	{ KEY_QUEUES, NET_TAP, "tap" },
};

/* 0, or 1 for none. */
static int parse_kind(const char *word, struct net_config *c, struct error *err)
{
	static const char *const words[] = { "user", "tap", "none", "socket", NULL };
	const char *nearest;

	if (strcmp(word, "none") == 0)
		return 1;
	if (strcmp(word, "user") == 0) {
		c->kind = NET_USER;
		return 0;
	}
	if (strcmp(word, "tap") == 0) {
		c->kind = NET_TAP;
		return 0;
	}
	if (strncmp(word, "socket=", 7) == 0 && word[7]) {
		c->kind = NET_SOCKET;
		c->path = word + 7;
		return 0;
	}
	nearest = word_nearest(word, words);
	error_set(err, -EINVAL, "'%.100s' is no network; there are user, tap, socket=PATH and none", word);
	if (nearest)
		error_hint(err, "did you mean '%s'?", strcmp(nearest, "socket") == 0 ? "socket=PATH" : nearest);
	return -EINVAL;
}

/* The keys of kvmtool's form, "mode=tap,trans=virtio,tapif=tap0", are made ours. */
static int take_kvmtools(struct device_value *value, struct error *err)
{
	static const unsigned same[][2] = { { KEY_TAPIF, KEY_IFNAME }, { KEY_GUEST_MAC, KEY_MAC } };
	const char *trans = value->keys[KEY_TRANS];

	if (trans && strcmp(trans, "virtio") != 0)
		return error_set(
			err, -EINVAL, "trans=%.40s: there is only virtio; transport= says what carries it", trans);
	for (size_t i = 0; i < sizeof(same) / sizeof(same[0]); i++) {
		const char **from = &value->keys[same[i][0]], **to = &value->keys[same[i][1]];

		if (*from && *to)
			return error_set(err, -EINVAL, "%s= and %s= are the same: leave one of them out",
				keys[same[i][0]].name, keys[same[i][1]].name);
		if (*from)
			*to = *from;
		*from = NULL;
	}
	return 0;
}

static int check_keys(const struct device_value *value, enum net_kind kind, struct error *err)
{
	for (size_t i = 0; i < sizeof(belongs) / sizeof(belongs[0]); i++) {
		if (value->keys[belongs[i].key] && belongs[i].kind != kind)
			return error_set(err, -EINVAL, "%s%s goes with %s", keys[belongs[i].key].name,
				keys[belongs[i].key].flag ? "" : "=", belongs[i].word);
	}
	if (value->keys[KEY_FD]) {
		for (unsigned key = KEY_IFNAME; key < NR_KEYS; key++) {
			if (key != KEY_FD && value->keys[key])
				return error_set(err, -EINVAL,
					"%s= does not go with fd=, whose interface is made already", keys[key].name);
		}
	}
	return 0;
}

/* No network, and so nothing to say of it, by the names that the user has for it. 1, or -EINVAL. */
static int check_none(const struct device_value *value, struct error *err)
{
	for (unsigned key = 0; key < NR_KEYS; key++) {
		if (value->keys[key])
			return error_set(
				err, -EINVAL, "%s%s does not go with none", keys[key].name, keys[key].flag ? "" : "=");
	}
	return 1;
}

static int parse_tap(const struct device_value *value, struct net_config *c, struct error *err)
{
	unsigned fd = 0;
	int r = 0;

	c->ifname = value->keys[KEY_IFNAME];
	c->script = value->keys[KEY_SCRIPT];
	c->downscript = value->keys[KEY_DOWNSCRIPT];
	if (value->keys[KEY_FD]) {
		r = device_number("fd", value->keys[KEY_FD], 3, 1 << 20, &fd, err);
		c->fd = r ? -1 : (int)fd;
	}
	if (r == 0 && value->keys[KEY_QUEUES])
		r = device_number("queues", value->keys[KEY_QUEUES], 1, NET_PAIRS, &c->pairs, err);
	return r;
}

static int parse_ports(const char *key, const char *text, struct error *err)
{
	return text && ports_check(text, err) ? error_prefix(err, -EINVAL, "%s=", key) : 0;
}

static int parse_values(const struct device_value *value, struct virtio_net_options *o, struct error *err)
{
	int r = check_keys(value, o->host.kind, err);

	if (r == 0 && value->keys[KEY_MAC])
		r = device_mac(value->keys[KEY_MAC], o->mac, err);
	o->vhost = value->keys[KEY_VHOST];
	o->has_mac = value->keys[KEY_MAC];
	if (r == 0 && value->keys[KEY_MTU])
		r = device_number("mtu", value->keys[KEY_MTU], MTU_LEAST, MTU_MOST, &o->mtu, err);
	o->host.mtu = o->mtu;
	o->host.tcp = value->keys[KEY_TCP];
	o->host.udp = value->keys[KEY_UDP];
	if (r == 0)
		r = parse_ports("tcp", o->host.tcp, err);
	if (r == 0)
		r = parse_ports("udp", o->host.udp, err);
	return r ? r : parse_tap(value, &o->host, err);
}

static int network_parse(
	const struct device_value *value, const struct machine_config *m, void **config, struct error *err)
{
	struct virtio_net_options *o = calloc(1, sizeof(*o));
	struct device_value own = *value;
	int r;

	if (!o)
		return error_set(err, -ENOMEM, "no memory");
	*config = o;
	o->host.fd = -1;
	o->host.pairs = 1;
	o->host.dry = m->dry_run && !m->device_test;
	o->guest = m->name;
	if (strncmp(own.words[0], "mode=", 5) == 0)
		own.words[0] += 5;
	r = parse_kind(own.words[0], &o->host, err);
	if (r == 1)
		return check_none(&own, err);
	if (r == 0)
		r = take_kvmtools(&own, err);
	return r ? r : parse_values(&own, o, err);
}

const struct device_option network_option = {
	.letter = 'n',
	.name = "network",
	.value = "WHAT[,KEY=VALUE]...",
	.help = "a network: user (by passt), tap, socket=PATH, none; keys: mac, mtu; user: tcp, udp; tap: vhost, "
		"ifname, fd, script, downscript, queues",
	.device = "net",
	.words = 1,
	.type = &virtio_net_type,
	.keys = keys,
	.parse = network_parse,
};
