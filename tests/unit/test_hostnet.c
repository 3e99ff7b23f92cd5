/* SPDX-License-Identifier: BSD-2-Clause */
/* test_hostnet.c - back ends of network devices: frames through a stream socket, lists of ports, a tap, passt. */
#include "unit.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "host/net.h"
#include "host/ports.h"

/* ---- the stream ---- */

struct stream {
	struct net_backend *b;
	int peer;
};

static void stream_open(struct stream *s)
{
	int fds[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	assert_int_equal(netsock_wrap(fds[0], "peer", &s->b), 0);
	s->peer = fds[1];
}

static void stream_close(struct stream *s)
{
	net_close(s->b);
	if (s->peer >= 0)
		close(s->peer);
}

static void say_frame(int fd, uint32_t length, const void *bytes, size_t n)
{
	length = htonl(length);
	assert_int_equal(write(fd, &length, 4), 4);
	assert_int_equal(write(fd, bytes, n), n);
}

static void a_stream_has_frames(void **state)
{
	static uint8_t longest[NET_FRAME];
	const uint8_t *frame;
	struct stream s;

	stream_open(&s);
	assert_int_equal(s.b->ops->receive(s.b, 0, &frame), -EAGAIN);
	say_frame(s.peer, 5, "first", 5);
	say_frame(s.peer, 6, "second", 6);
	say_frame(s.peer, 9, "cut", 3);
	assert_int_equal(s.b->ops->receive(s.b, 0, &frame), 5);
	assert_memory_equal(frame, "first", 5);
	assert_int_equal(s.b->ops->receive(s.b, 0, &frame), 6);
	assert_memory_equal(frame, "second", 6);
	assert_int_equal(s.b->ops->receive(s.b, 0, &frame), -EAGAIN);
	assert_int_equal(write(s.peer, " no mo", 6), 6);
	assert_int_equal(s.b->ops->receive(s.b, 0, &frame), 9);
	assert_memory_equal(frame, "cut no mo", 9);
	/* A read that had less than it could take is not made again before epoll tells of more. */
	assert_int_equal(s.b->ops->receive(s.b, 0, &frame), -EAGAIN);
	memset(longest, 0xa5, sizeof(longest));
	say_frame(s.peer, sizeof(longest), longest, sizeof(longest));
	say_frame(s.peer, 1, "x", 1);
	assert_int_equal(s.b->ops->receive(s.b, 0, &frame), sizeof(longest));
	assert_memory_equal(frame, longest, sizeof(longest));
	assert_int_equal(s.b->ops->receive(s.b, 0, &frame), 1);
	stream_close(&s);
}

static void a_stream_that_ends_or_lies_is_over(void **state)
{
	static const uint32_t lengths[] = { 0, NET_FRAME + 1, 0x80000000, 0xffffffff };
	char four[4] = "four";
	struct iovec iov = { four, 4 };
	const uint8_t *frame;
	struct stream s;

	for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
		stream_open(&s);
		say_frame(s.peer, lengths[i], "0123456789", 10);
		assert_int_equal(s.b->ops->receive(s.b, 0, &frame), -EPROTO);
		assert_int_equal(s.b->ops->receive(s.b, 0, &frame), -EPROTO);
		stream_close(&s);
	}
	stream_open(&s);
	say_frame(s.peer, 4, "last", 4);
	close(s.peer);
	s.peer = -1;
	assert_int_equal(s.b->ops->receive(s.b, 0, &frame), 4);
	assert_int_equal(s.b->ops->receive(s.b, 0, &frame), -EAGAIN);
	assert_int_equal(s.b->ops->receive(s.b, 0, &frame), -EPIPE);
	assert_int_equal(s.b->ops->send(s.b, 0, &iov, 1, 4), 0);
	assert_int_equal(s.b->ops->flush(s.b, 0), -EPIPE);
	stream_close(&s);
}

static void read_all(int fd, void *buf, size_t n)
{
	for (size_t at = 0; at < n;) {
		ssize_t got = read(fd, (uint8_t *)buf + at, n - at);

		assert_true(got > 0);
		at += (size_t)got;
	}
}

/* As many as it takes until the socket is full, then all of them are there whole and in order. */
static void a_stream_that_is_full_cuts_no_frame(void **state)
{
	static uint8_t out[60000], in[60000];
	struct iovec iov[2] = { { out, 100 }, { out + 100, sizeof(out) - 100 } };
	unsigned sent = 0, more = 0;
	struct stream s;
	uint32_t length;
	int r;

	stream_open(&s);
	for (;; sent++) {
		memset(out, (int)sent + 1, sizeof(out));
		r = s.b->ops->send(s.b, 0, iov, 2, sizeof(out));
		if (r)
			break;
	}
	assert_int_equal(r, -EAGAIN);
	assert_true(sent > 1);
	/* Whether a part of one is kept depends on the socket; it was reported as sent then. */
	for (unsigned i = 0; i < sent; i++) {
		read_all(s.peer, &length, 4);
		assert_int_equal(ntohl(length), sizeof(in));
		(void)s.b->ops->flush(s.b, 0);
		for (size_t at = 0; at < sizeof(in); at += 1000) {
			read_all(s.peer, in + at, 1000);
			(void)s.b->ops->flush(s.b, 0);
		}
		memset(out, (int)i + 1, sizeof(out));
		assert_memory_equal(in, out, sizeof(in));
	}
	assert_int_equal(s.b->ops->flush(s.b, 0), 0);
	for (struct pollfd pfd = { .fd = s.peer, .events = POLLIN }; poll(&pfd, 1, 0) > 0; more++)
		read_all(s.peer, &length, 1);
	assert_int_equal(more, 0);
	stream_close(&s);
}

/* Bytes of frame `i`: small ones and large ones by turns. */
static size_t gathered_size(unsigned i)
{
	return i % 7 == 3 ? 30000 : 1 + i * 37 % 1500;
}

/* Small frames wait for each other, up to the flush or the next that is large, and none overtakes another. */
static void small_frames_are_gathered(void **state)
{
	static uint8_t out[30000], in[30000];
	struct iovec iov[2] = { { out, 1 }, { out + 1, 0 } };
	struct stream s;
	unsigned sent = 0;
	uint32_t length;
	int r = 0;

	stream_open(&s);
	iov[1].iov_len = 9;
	assert_int_equal(s.b->ops->send(s.b, 0, iov, 2, 10), 0);
	assert_int_equal(recv(s.peer, in, 1, MSG_DONTWAIT), -1);
	assert_int_equal(s.b->ops->flush(s.b, 0), 0);
	read_all(s.peer, in, 4 + 10);
	while (r == 0) {
		size_t size = gathered_size(sent);

		memset(out, (int)sent + 1, sizeof(out));
		iov[1].iov_len = size - 1;
		r = s.b->ops->send(s.b, 0, iov, size > 1 ? 2 : 1, size);
		sent += r == 0;
	}
	assert_int_equal(r, -EAGAIN);
	assert_true(sent > 7);
	for (unsigned i = 0; i < sent; i++) {
		(void)s.b->ops->flush(s.b, 0);
		read_all(s.peer, &length, 4);
		assert_int_equal(ntohl(length), gathered_size(i));
		for (size_t at = 0, part; at < gathered_size(i); at += part) {
			part = gathered_size(i) - at < 1000 ? gathered_size(i) - at : 1000;
			(void)s.b->ops->flush(s.b, 0);
			read_all(s.peer, in + at, part);
		}
		memset(out, (int)i + 1, sizeof(out));
		assert_memory_equal(in, out, gathered_size(i));
	}
	assert_int_equal(s.b->ops->flush(s.b, 0), 0);
	assert_int_equal(recv(s.peer, in, 1, MSG_DONTWAIT), -1);
	stream_close(&s);
}

static void a_socket_that_nobody_serves(void **state)
{
	struct net_config config = { .kind = NET_SOCKET, .path = "/nonexistent/net" };
	struct net_backend *b;
	struct error err = { .status = 0 };

	assert_int_equal(net_open(&config, "net0", &b, &err), -ENOENT);
	assert_null(b);
	assert_non_null(strstr(err.text, "net0: cannot connect to '/nonexistent/net'"));
	config.path = "";
	assert_int_equal(net_open(&config, "net0", &b, &err), -EINVAL);
}

/* ---- ports ---- */

static void lists_of_ports(void **state)
{
	static const char *const good[] = { "80", "8080:80", "1-65535", "8000-8010:80-90", "127.0.0.1/8080:80",
		"::1/22", "22,80,8080:443", "0.0.0.0/1:65535" };
	static const char *const bad[] = { "", ",", "80,", "0", "65536", "80:", ":80", "-80", "80-", "90-80", "1-2:3-5",
		"x", "80:x", "1.2.3/80", "/80", "80/80", "8080:80:80", "999999999999", "all", "1--2" };
	struct error err;

	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
		assert_int_equal(ports_check(good[i], &err), 0);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		memset(&err, 0, sizeof(err));
		assert_int_equal(ports_check(bad[i], &err), -EINVAL);
		assert_non_null(strstr(err.text, "is no port to forward"));
	}
}

static void a_port_that_is_taken(void **state)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(address);
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	struct error err = { .status = 0 };
	char text[64], port[16];

	assert_int_equal(bind(fd, (struct sockaddr *)&address, len), 0);
	assert_int_equal(listen(fd, 1), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &len), 0);
	snprintf(text, sizeof(text), "127.0.0.1/%u:80", ntohs(address.sin_port));
	snprintf(port, sizeof(port), "port %u ", ntohs(address.sin_port));
	assert_int_equal(ports_free(text, false, &err), -EADDRINUSE);
	assert_non_null(strstr(err.text, port));
	assert_non_null(strstr(err.hint, "another program"));
	/* UDP is another space. */
	assert_int_equal(ports_free(text, true, &err), 0);
	close(fd);
	assert_int_equal(ports_free(text, false, &err), 0);
}

/* ---- tap ---- */

static void taps_that_cannot_be(void **state)
{
	struct net_config config = { .kind = NET_TAP, .pairs = 1, .fd = -1, .ifname = "a-name-that-is-too-long" };
	struct net_backend *b;
	struct error err = { .status = 0 };
	int null = open("/dev/null", O_RDWR);

	assert_int_equal(net_open(&config, "net0", &b, &err), -EINVAL);
	assert_non_null(strstr(err.text, "15 characters"));
	config.ifname = NULL;
	config.fd = null;
	assert_int_equal(net_open(&config, "net0", &b, &err), -EINVAL);
	assert_non_null(strstr(err.text, "not of a tap device"));
	/* What is refused is left to whoever opened it. */
	assert_true(fcntl(null, F_GETFD) >= 0);
	close(null);
	assert_int_equal(net_open(&config, "net0", &b, &err), -EINVAL);
	assert_non_null(strstr(err.text, "Bad file descriptor"));
}

static bool is_up(const char *name)
{
	int s = socket(AF_INET, SOCK_DGRAM, 0);
	struct ifreq ifr = { .ifr_flags = 0 };
	int r;

	snprintf(ifr.ifr_name, IFNAMSIZ, "%.15s", name);
	r = ioctl(s, SIOCGIFFLAGS, &ifr);
	close(s);
	return r == 0 && (ifr.ifr_flags & IFF_UP);
}

static void a_tap_is_made_and_used(void **state)
{
	struct net_config config = { .kind = NET_TAP, .pairs = 2, .fd = -1, .ifname = "tltest%d" };
	uint8_t frame[NET_HEADER + 60] = { 0 };
	struct iovec iov = { frame, sizeof(frame) };
	struct error err = { .status = 0 };
	struct net_backend *b, *other;
	const uint8_t *got;
	char name[IFNAMSIZ];
	int r = net_open(&config, "net0", &b, &err);

	if (r == -EPERM || r == -EACCES || r == -ENOENT || r == -ENODEV) {
		assert_true(err.hint[0]);
		print_message("no tap here: %s\n", err.text);
		skip();
	}
	assert_int_equal(r, 0);
	assert_true(b->vnet && b->pairs == 2 && b->mtu == 1500);
	assert_true(is_up(b->name));
	memset(frame + NET_HEADER, 0xff, 6);
	assert_int_equal(b->ops->send(b, 0, &iov, 1, sizeof(frame)), 0);
	assert_int_equal(b->ops->attach(b, 1, true), 0);
	assert_int_equal(b->ops->attach(b, 1, true), 0);
	assert_int_equal(b->ops->send(b, 1, &iov, 1, sizeof(frame)), 0);
	assert_int_equal(b->ops->attach(b, 1, false), 0);
	/* Whatever the host's own stack says on a new interface comes with a header. */
	for (ssize_t n = 1; n > 0;) {
		n = b->ops->receive(b, 0, &got);
		assert_true(n == -EAGAIN || n >= NET_HEADER + NET_ETHERNET);
	}
	/* The kernel refuses what the header cannot mean. */
	frame[1] = 1; /* TSO of IPv4, without a sum, a size, or IPv4 */
	assert_true(b->ops->send(b, 0, &iov, 1, sizeof(frame)) < 0);
	/* Somebody else's with only one queue. */
	snprintf(name, sizeof(name), "%.15s", b->name);
	config.ifname = name;
	config.pairs = 1;
	assert_true(net_open(&config, "net1", &other, &err) < 0);
	assert_non_null(strstr(err.text, name));
	assert_true(err.hint[0]);
	net_close(b);
	assert_false(is_up(name));
}

static void delete (const char *name)
{
	struct {
		struct nlmsghdr header;
		struct ifinfomsg link;
	} message = {
		.header = { .nlmsg_len = sizeof(message),
			.nlmsg_type = RTM_DELLINK,
			.nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK },
		.link = { .ifi_index = (int)if_nametoindex(name) },
	};
	struct {
		struct nlmsghdr header;
		struct nlmsgerr error;
	} answer;
	int s = socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE);

	assert_true(message.link.ifi_index > 0);
	assert_int_equal(send(s, &message, sizeof(message), 0), sizeof(message));
	assert_true(recv(s, &answer, sizeof(answer), 0) > 0);
	assert_int_equal(answer.header.nlmsg_type, NLMSG_ERROR);
	assert_int_equal(answer.error.error, 0);
	close(s);
}

/* Who does not read its frames hears of it by the descriptor that is for that, and of no other's end. */
static void a_tap_is_deleted(void **state)
{
	const struct net_config config = { .kind = NET_TAP, .pairs = 1, .fd = -1, .ifname = "tltest%d" };
	struct error err = { .status = 0 };
	struct net_backend *b, *other;
	struct pollfd pfd = { .events = POLLIN };
	int r = net_open(&config, "net0", &b, &err);

	if (r == -EPERM || r == -EACCES || r == -ENOENT || r == -ENODEV)
		skip();
	assert_int_equal(r, 0);
	assert_int_equal(net_open(&config, "net1", &other, &err), 0);
	pfd.fd = b->ops->notice(b);
	assert_true(pfd.fd >= 0);
	assert_int_equal(b->ops->notice(b), pfd.fd);
	/* The other's coming is over; what is new or changes is not told. */
	assert_int_equal(poll(&pfd, 1, 0), 0);
	assert_false(b->ops->gone(b));
	delete (other->name);
	assert_int_equal(poll(&pfd, 1, 10000), 1);
	assert_false(b->ops->gone(b));
	assert_int_equal(poll(&pfd, 1, 0), 0);
	net_close(other);
	assert_int_equal(net_open(&config, "net1", &other, &err), 0);
	assert_int_equal(poll(&pfd, 1, 0), 0);
	delete (b->name);
	assert_int_equal(poll(&pfd, 1, 10000), 1);
	assert_true(b->ops->gone(b));
	net_close(other);
	net_close(b);
}

/* ---- passt ---- */

/* By somebody else's hand, in the middle of it all. */
static void passt_dies(struct net_backend *b)
{
	struct pollfd pfd = { .fd = b->fds[0], .events = POLLIN };
	char path[64], how[CHILD_HOW];
	const uint8_t *frame;
	pid_t pid = 0;
	FILE *file;
	ssize_t n;

	/* Our only child. */
	snprintf(path, sizeof(path), "/proc/self/task/%d/children", getpid());
	file = fopen(path, "re");
	assert_non_null(file);
	assert_int_equal(fscanf(file, "%d", &pid), 1);
	fclose(file);
	kill(pid, SIGKILL);
	do {
		poll(&pfd, 1, 100);
		n = b->ops->receive(b, 0, &frame);
	} while (n > 0 || n == -EAGAIN);
	assert_int_equal(n, -EPIPE);
	assert_true(b->ops->why(b, how));
	assert_string_equal(how, "killed by signal 9 (Killed)");
}

/* A DHCPDISCOVER; the offer has the MTU, option 26. passt asks for no checksums. */
static void passt_offers_the_mtu(struct net_backend *b, unsigned mtu)
{
	static const uint8_t begin[] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 1, 8, 0, 0x45, 0, 1, 0x48,
		0, 0, 0, 0, 64, 17, 0, 0, 0, 0, 0, 0, 255, 255, 255, 255, 0, 68, 0, 67, 1, 0x34, 0, 0, 1, 1, 6, 0 };
	static const uint8_t options[] = { 0x63, 0x82, 0x53, 0x63, 53, 1, 1, 255 };
	const uint8_t wanted[] = { 26, 2, (uint8_t)(mtu >> 8), (uint8_t)mtu };
	uint8_t discover[14 + 0x148] = { 0 };
	struct iovec iov = { discover, sizeof(discover) };
	bool offered = false;

	memcpy(discover, begin, sizeof(begin));
	memcpy(discover + 14 + 20 + 8 + 28, begin + 6, 6);
	memcpy(discover + 14 + 20 + 8 + 236, options, sizeof(options));
	assert_int_equal(b->mtu, mtu);
	assert_int_equal(b->ops->send(b, 0, &iov, 1, sizeof(discover)), 0);
	assert_int_equal(b->ops->flush(b, 0), 0);
	for (unsigned i = 0; !offered && i < 100; i++) {
		struct pollfd pfd = { .fd = b->fds[0], .events = POLLIN };
		const uint8_t *frame;
		ssize_t n;

		poll(&pfd, 1, 100);
		n = b->ops->receive(b, 0, &frame);
		offered = n > 282 && memmem(frame + 282, (size_t)n - 282, wanted, sizeof(wanted));
	}
	assert_true(offered);
}

static void passt_comes_and_goes(void **state)
{
	struct net_config config = { .kind = NET_USER };
	/* Who has 10.255.255.254? Anybody answers for any address. */
	static const uint8_t arp[42] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 1, 8, 6, 0, 1, 8, 0, 6, 4,
		0, 1, 2, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 10, 255, 255, 254 };
	struct iovec iov = { (void *)(uintptr_t)arp, sizeof(arp) };
	struct error err = { .status = 0 };
	struct net_backend *b;
	const uint8_t *frame;
	char *path = strdup(getenv("PATH"));
	ssize_t n = -EAGAIN;
	int r;

	setenv("PATH", "/nonexistent", 1);
	assert_int_equal(net_open(&config, "net0", &b, &err), -ENOENT);
	assert_non_null(strstr(err.hint, "apt install passt"));
	setenv("PATH", path, 1);
	free(path);
	r = net_open(&config, "net0", &b, &err);
	if (r) {
		/* Not installed, or a host without any network of its own. */
		print_message("no passt here: %s\n", err.text);
		assert_true(r == -ENOENT || strstr(err.text, "passt did not start: "));
		skip();
	}
	assert_int_equal(b->ops->send(b, 0, &iov, 1, sizeof(arp)), 0);
	assert_int_equal(b->ops->flush(b, 0), 0);
	for (unsigned i = 0; n == -EAGAIN && i < 100; i++) {
		struct pollfd pfd = { .fd = b->fds[0], .events = POLLIN };

		poll(&pfd, 1, 100);
		n = b->ops->receive(b, 0, &frame);
	}
	assert_int_equal(n, sizeof(arp));
	assert_int_equal(frame[12] << 8 | frame[13], 0x0806);
	assert_int_equal(frame[21], 2);
	passt_offers_the_mtu(b, NET_USER_MTU);
	passt_dies(b);
	net_close(b);
	config.mtu = 1400;
	assert_int_equal(net_open(&config, "net0", &b, &err), 0);
	passt_offers_the_mtu(b, 1400);
	net_close(b);
	/* Who only looks is told the same. */
	config.dry = true;
	assert_int_equal(net_open(&config, "net0", &b, &err), 0);
	assert_int_equal(b->mtu, 1400);
	net_close(b);
	config.dry = false;
	config.tcp = "28080,28080"; /* which passt refuses by itself, and says so */
	assert_true(net_open(&config, "net0", &b, &err) < 0);
	assert_non_null(strstr(err.text, "passt did not start: Overlapping port"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_stream_has_frames),
		cmocka_unit_test(a_stream_that_ends_or_lies_is_over),
		cmocka_unit_test(a_stream_that_is_full_cuts_no_frame),
		cmocka_unit_test(small_frames_are_gathered),
		cmocka_unit_test(a_socket_that_nobody_serves),
		cmocka_unit_test(lists_of_ports),
		cmocka_unit_test(a_port_that_is_taken),
		cmocka_unit_test(taps_that_cannot_be),
		cmocka_unit_test(a_tap_is_made_and_used),
		cmocka_unit_test(a_tap_is_deleted),
		cmocka_unit_test(passt_comes_and_goes),
	};

	return cmocka_run_group_tests(tests, unit_adopt, unit_release);
}
