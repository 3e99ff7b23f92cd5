/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_qsd.c - formats of disk images, URIs of NBD, and qemu-storage-daemon, the real one, with images of qemu-img's.
 */
#include "unit.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "host/disk_chain.h"
#include "host/disk_lock.h"
#include "host/nbd.h"
#include "host/qsd.h"
#include "host/vhost_user.h"

#define SIZE (8ULL << 20)

static char folder[] = "/tmp/trapline-qsd-XXXXXX";

static const char *at(const char *name)
{
	static char path[4][256];
	static unsigned next;

	next = (next + 1) % 4;
	snprintf(path[next], sizeof(path[next]), "%s/%s", folder, name);
	return path[next];
}

static void make(const char *name, const void *head, size_t n)
{
	int fd = open(at(name), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, head, n, 0), n);
	assert_int_equal(ftruncate(fd, 1 << 20), 0);
	close(fd);
}

/* A shell's command in the folder. */
static int shell(const char *command)
{
	char line[1024];

	snprintf(line, sizeof(line), "cd %s && %s", folder, command);
	return system(line); /* NOLINT: it is ours */
}

static bool has_tools(void)
{
	if (shell("command -v qemu-img >/dev/null && command -v " QSD_PROGRAM " >/dev/null") == 0)
		return true;
	print_message("qemu-img and " QSD_PROGRAM " are not installed\n");
	return false;
}

/* ---- formats ---- */

static void begin_and_name_have_to_agree(void **state)
{
	const struct disk_format *format;
	struct error err = { .status = 0 };

	make("a.qcow2", "QFI\xfb\0\0\0\3", 8);
	make("b.img", "nothing", 8);
	make("c.QCOW", "QFI\xfb\0\0\0\1", 8);
	assert_int_equal(disk_format_find(at("a.qcow2"), NULL, &format, &err), 0);
	assert_string_equal(format->name, "qcow2");
	assert_int_equal(disk_format_find(at("c.QCOW"), NULL, &format, &err), 0);
	assert_string_equal(format->name, "qcow");
	assert_int_equal(disk_format_find(at("b.img"), NULL, &format, &err), 0);
	assert_null(format);
	/* A raw disk whose guest has written what an image begins with stays a raw disk, or nothing. */
	make("b.img", "QFI\xfb\0\0\0\3", 8);
	assert_int_equal(disk_format_find(at("b.img"), NULL, &format, &err), -EINVAL);
	assert_null(format);
	assert_non_null(strstr(err.text, "begins like a QCOW2 image, but is not called so"));
	assert_string_equal(err.hint, "say which it is: format=qcow2 or format=raw");
	assert_int_equal(disk_format_find(at("b.img"), "raw", &format, &err), 0);
	assert_null(format);
	assert_int_equal(disk_format_find(at("b.img"), "qcow2", &format, &err), 0);
	assert_string_equal(format->name, "qcow2");
	/* The other way round, and two formats. */
	make("d.vdi", "raw", 3);
	assert_int_equal(disk_format_find(at("d.vdi"), NULL, &format, &err), -EINVAL);
	assert_non_null(strstr(err.text, "is called like a VDI image, but begins like none"));
	make("d.vdi", "vhdxfile", 8);
	assert_int_equal(disk_format_find(at("d.vdi"), NULL, &format, &err), -EINVAL);
	assert_non_null(strstr(err.text, "is called like a VDI image, but begins like a VHDX one"));
	assert_int_equal(disk_format_find(at("b.img"), "qcow3", &format, &err), -EINVAL);
	assert_non_null(strstr(err.text, "'format=qcow3'"));
	assert_int_equal(disk_format_find(at("none.qcow2"), NULL, &format, &err), -ENOENT);
	/* What is no file is for others to judge, and not waited for. */
	assert_int_equal(mkfifo(at("fifo.qcow2"), 0600), 0);
	assert_int_equal(disk_format_find(at("fifo.qcow2"), NULL, &format, &err), -EINVAL);
	assert_int_equal(disk_format_find("/dev/null", NULL, &format, &err), 0);
	assert_null(format);
}

static void formats_of_qemu_img(void **state)
{
	static const struct {
		const char *file, *option, *format;
	} all[] = {
		{ "x.qcow2", "qcow2", "qcow2" },
		{ "x.qcow", "qcow", "qcow" },
		{ "x.qed", "qed", "qed" },
		{ "x.vmdk", "vmdk", "vmdk" },
		{ "y.vmdk", "vmdk -o subformat=twoGbMaxExtentFlat", "vmdk" },
		{ "x.vdi", "vdi", "vdi" },
		{ "x.vhdx", "vhdx", "vhdx" },
		{ "x.vhd", "vpc", "vpc" },
		{ "x.hds", "parallels", "parallels" },
		{ "x.img", "raw", NULL },
	};
	char command[256];

	if (!has_tools())
		skip();
	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		const struct disk_format *format;
		struct error err = { .status = 0 };

		snprintf(command, sizeof(command), "qemu-img create -q -f %s %s 8M", all[i].option, all[i].file);
		assert_int_equal(shell(command), 0);
		assert_int_equal(disk_format_find(at(all[i].file), NULL, &format, &err), 0);
		if (all[i].format)
			assert_string_equal(format->name, all[i].format);
		else
			assert_null(format);
	}
}

static void what_lies_below_is_not_guessed(void **state)
{
	static const struct {
		const char *command, *file, *format;
		bool guessed;
	} all[] = {
		{ "qemu-img create -q -f qcow2 alone.qcow2 8M", "alone.qcow2", "qcow2", false },
		{ "qemu-img create -q -f raw below.img 8M && qemu-img create -q -f qcow2 -F raw -b below.img "
		  "said.qcow2",
			"said.qcow2", "qcow2", false },
		{ "qemu-img create -q -f qcow2 -o compat=0.10 -F raw -b below.img old.qcow2", "old.qcow2", "qcow2",
			false },
		/* Nobody makes such any more, but they are there. */
		{ "qemu-img rebase -u -f qcow2 -b '' said.qcow2 && cp said.qcow2 left.qcow2 &&"
		  "printf '\\0\\0\\0\\0\\0\\0\\2\\0\\0\\0\\0\\011' | dd of=left.qcow2 bs=1 seek=8 conv=notrunc "
		  "status=none",
			"left.qcow2", "qcow2", true },
		{ "qemu-img create -q -f qed alone.qed 8M", "alone.qed", "qed", false },
		{ "qemu-img create -q -f qed -F qed -b alone.qed over.qed", "over.qed", "qed", true },
		{ "qemu-img create -q -f qed -F raw -b below.img said.qed", "said.qed", "qed", false },
		{ "qemu-img create -q -f qcow -F raw -b below.img over.qcow", "over.qcow", "qcow", true },
	};

	if (!has_tools())
		skip();
	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		struct error err = { .status = 0 };
		int r;

		assert_int_equal(shell(all[i].command), 0);
		r = disk_chain_check(at(all[i].file), disk_format_named(all[i].format), NULL, &err);
		assert_int_equal(r, all[i].guessed ? -EINVAL : 0);
		if (r)
			assert_non_null(strstr(err.text, "does not say which format"));
	}
}

/* All the way down, in one line each that says which file names which. */
static void chains_are_checked(void **state)
{
	static const struct {
		const char *command, *words, *other;
		int r;
	} all[] = {
		{ "mkdir c && cd c && qemu-img create -q -f raw a.img 8M && qemu-img create -q -f qcow2 -F raw -b "
		  "a.img b.qcow2 && "
		  "qemu-img create -q -f qcow2 -F qcow2 -b b.qcow2 c.qcow2 && "
		  "qemu-img create -q -f qcow2 -F qcow2 -b c/c.qcow2 ../top.qcow2",
			NULL, NULL, 0 },
		{ "mv c/a.img c/x.img", "c/b.qcow2' names 'a.img'", "No such file", -ENOENT },
		{ "mkfifo c/a.img", "c/b.qcow2' names 'a.img'", "neither a file nor a block device", -EINVAL },
		{ "rm c/a.img && mv c/x.img c/a.img && cp c/a.img c/b.qcow2", "c/c.qcow2' names 'b.qcow2'",
			"not begin like the QCOW2 image", -EINVAL },
		{ "rm c/b.qcow2 && cp c/c.qcow2 c/b.qcow2", "c/b.qcow2' names 'b.qcow2'", "below itself", -ELOOP },
		{ "cd c && qemu-img rebase -u -F qcow2 -b ../top.qcow2 b.qcow2", "c/b.qcow2' names '../top.qcow2'",
			"below itself", -ELOOP },
		{ "cd c && qemu-img rebase -u -F qcow2 -b d1.qcow2 b.qcow2 && for i in $(seq 1 70); do "
		  "cp b.qcow2 d.qcow2 && qemu-img rebase -u -F qcow2 -b d$((i+1)).qcow2 d.qcow2 && "
		  "mv d.qcow2 d$i.qcow2; done",
			"names 'd", "too many images", -E2BIG },
		{ "qemu-img rebase -u -F raw -b nbd://localhost/x c/d9.qcow2", NULL, NULL, 0 },
	};

	if (!has_tools())
		skip();
	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		struct error err = { .status = 0 };

		assert_int_equal(shell(all[i].command), 0);
		assert_int_equal(disk_chain_check(at("top.qcow2"), disk_format_named("qcow2"), NULL, &err), all[i].r);
		if (!all[i].words)
			continue;
		if (!strstr(err.text, all[i].words) || !strstr(err.text, all[i].other))
			fail_msg("%s", err.text);
	}
}

/* "file:" and the file of the data are looked for where we are, not where the image is; that is how they are opened. */
static void names_from_here(void **state)
{
	static const struct {
		const char *command, *words;
		int r;
	} all[] = {
		{ "mkdir h && qemu-img create -q -f raw h/here.img 8M && "
		  "qemu-img create -q -f qcow2 -u -F raw -b file:here.img h/file.qcow2 8M",
			"h/file.qcow2' names 'file:here.img' as what lies below it: No such file", -ENOENT },
		{ "mv h/here.img .", NULL, 0 },
		{ "qemu-img create -q -f qcow2 -o data_file=data.img h/file.qcow2 8M", NULL, 0 },
		{ "mv data.img h", "h/file.qcow2' names 'data.img' as the file of its data: No such file", -ENOENT },
		{ "mkfifo data.img", "names 'data.img' as the file of its data: it is neither a file", -EINVAL },
	};
	char *old;

	if (!has_tools())
		skip();
	old = getcwd(NULL, 0);
	assert_non_null(old);
	assert_int_equal(chdir(folder), 0);
	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		struct error err = { .status = 0 };
		bool told = false;
		int r;

		assert_int_equal(shell(all[i].command), 0);
		r = disk_chain_check(at("h/file.qcow2"), disk_format_named("qcow2"), &told, &err);
		if (r != all[i].r || (r && !strstr(err.text, all[i].words)))
			fail_msg("%s: %d: %s", all[i].command, r, err.text);
	}
	assert_int_equal(chdir(old), 0);
	free(old);
}

/* A file below that somebody writes. */
static void a_chain_that_is_written(void **state)
{
	struct flock whole = { .l_type = F_WRLCK };
	struct error err = { .status = 0 };
	bool told = false;
	int fd;

	if (!has_tools())
		skip();
	assert_int_equal(
		shell("qemu-img create -q -f raw w.img 8M && qemu-img create -q -f qcow2 -F raw -b w.img w.qcow2"), 0);
	fd = open(at("w.img"), O_RDWR);
	assert_int_equal(fcntl(fd, F_OFD_SETLK, &whole), 0);
	assert_int_equal(disk_chain_check(at("w.qcow2"), disk_format_named("qcow2"), NULL, &err), 0);
	assert_int_equal(disk_chain_check(at("w.qcow2"), disk_format_named("qcow2"), &told, &err), -EBUSY);
	assert_non_null(strstr(err.text, "w.qcow2'"));
	assert_non_null(strstr(err.text, "w.img"));
	close(fd);
	assert_int_equal(disk_chain_check(at("w.qcow2"), disk_format_named("qcow2"), &told, &err), 0);
}

/* ---- URIs ---- */

static void uris(void **state)
{
	static const struct {
		const char *uri, *host, *port, *export;
		bool local;
	} good[] = {
		{ "nbd://host", "host", "10809", "", false },
		{ "nbd://host/", "host", "10809", "", false },
		{ "nbd://10.0.0.1:10810/disk", "10.0.0.1", "10810", "disk", false },
		{ "nbd://[::1]:1/a/b%20c,%2c", "::1", "1", "a/b c,,", false },
		{ "nbd://[fe80::1%25eth0]/x", "fe80::1%eth0", "10809", "x", false },
		{ "nbd+unix:///?socket=/run/nbd", "/run/nbd", "", "", true },
		{ "nbd+unix:///disk?socket=/a%3db", "/a=b", "", "disk", true },
	};
	static const char *const bad[] = { "nbd://", "nbd:///x", "nbd://:1", "nbd://h:", "nbd://h:0", "nbd://h:65536",
		"nbd://h:x", "nbd://[::1", "nbd://[]/x", "nbd://[::1]x/", "nbd://me@h/x", "nbd://h/x?y=z", "nbd://h/%0",
		"nbd://h/%00x", "nbd://h/%zz", "nbds://h/x", "nbds+unix:///x?socket=/s", "nbd+unix:///x",
		"nbd+unix://h/x?socket=/s", "nbd+unix:///x?socket=", "nbd+unix:///x?socket=/s&tls=1",
		"nbd+vsock://1/x" };
	struct error err;
	struct nbd nbd;

	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		assert_true(nbd_is(good[i].uri));
		assert_int_equal(nbd_parse(good[i].uri, &nbd, &err), 0);
		assert_string_equal(nbd.host, good[i].host);
		assert_string_equal(nbd.port, good[i].port);
		assert_string_equal(nbd.export, good[i].export);
		assert_int_equal(nbd.local, good[i].local);
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_true(nbd_is(bad[i]));
		assert_int_equal(nbd_parse(bad[i], &nbd, &err), -EINVAL);
		assert_non_null(strstr(err.text, "nbd"));
	}
	assert_false(nbd_is("nbd.img"));
	assert_false(nbd_is("/srv/nbd://x"));
}

/* ---- the daemon ---- */

static void its_words(void **state)
{
	const struct nbd inet = { .host = "::1", .port = "10809", .export = "a,b" },
			 local = { .local = true, .host = "/s" };
	struct qsd_config c = { .path = "a,b", .queues = 2 };
	char *blockdev, *export;

	c.format = disk_format_named("qcow2");
	assert_int_equal(qsd_words(&c, &blockdev, &export), 0);
	assert_string_equal(blockdev,
		"driver=qcow2,discard=unmap,read-only=off,cache.direct=off,file.driver=file,file.filename=a,,b,"
		"file.discard=unmap,file.read-only=off,file.cache.direct=off,node-name=disk");
	assert_string_equal(
		export, "type=vhost-user-blk,id=disk,node-name=disk,addr.type=fd,addr.str=3,writable=on,num-queues=2");
	free(blockdev);
	free(export);
	c = (struct qsd_config){ .remote = &inet, .ro = true, .direct = true, .queues = 1 };
	assert_int_equal(qsd_words(&c, &blockdev, &export), 0);
	assert_string_equal(blockdev,
		"driver=nbd,server.type=inet,server.host=::1,server.port=10809,export=a,,b,discard=unmap,"
		"read-only=on,cache.direct=on,node-name=disk");
	assert_string_equal(
		export, "type=vhost-user-blk,id=disk,node-name=disk,addr.type=fd,addr.str=3,writable=off,num-queues=1");
	free(blockdev);
	free(export);
	c = (struct qsd_config){ .remote = &local, .format = disk_format_named("vdi"), .queues = 1 };
	assert_int_equal(qsd_words(&c, &blockdev, &export), 0);
	assert_non_null(strstr(blockdev, ",file.driver=nbd,file.server.type=unix,file.server.path=/s,file.export=,"));
	free(blockdev);
	free(export);
}

static int open_disk(struct qsd *qsd, struct vhost **b, struct error *err)
{
	const struct vhost_user_config config = {
		.path = QSD_PROGRAM,
		.config_len = 60,
		.connect = qsd_connect,
		.arg = qsd,
	};

	return vhost_user_open(&config, b, err);
}

/*
 * Every format, and by NBD: each says how large it is, has the queues that it was asked for, and goes without a trace.
 */
static void it_serves_what_there_is(void **state)
{
	static const struct nbd nbd = { .local = true, .host = "nbd.socket", .export = "disk" };
	const struct disk_format *f = disk_formats;
	char command[256], *old;
	pid_t server = 0;

	if (!has_tools())
		skip();
	old = getcwd(NULL, 0);
	assert_non_null(old);
	assert_int_equal(chdir(folder), 0);
	for (bool more = true; more; f++) {
		struct qsd qsd = { .config = { .path = "a,b", .format = f->name ? f : NULL, .queues = 2 } };
		struct error err = { .status = 0 };
		uint8_t config[60] = { 0 };
		struct vhost *b = NULL;

		more = f->name;
		snprintf(command, sizeof(command), "rm -f a,b && qemu-img create -q -f %s a,b 8M",
			more ? f->name : "raw");
		assert_int_equal(shell(command), 0);
		if (!more) {
			qsd.config.remote = &nbd;
			server = fork();
			if (server == 0)
				execlp("qemu-storage-daemon", "qemu-storage-daemon", "--blockdev",
					"file,filename=a,,b,node-name=d", "--nbd-server",
					"addr.type=unix,addr.path=nbd.socket", "--export",
					"nbd,id=e,node-name=d,name=disk,writable=on", NULL);
			for (unsigned i = 0; access("nbd.socket", F_OK) && i < 1000; i++)
				usleep(10000);
		}
		if (open_disk(&qsd, &b, &err))
			fail_msg("%s: %s", more ? f->name : "nbd", err.text);
		assert_int_equal(b->ops->config_read(b, 0, sizeof(config), config), 0);
		/* A VHD has whole cylinders. */
		assert_in_range(config[2] << 16 | config[1] << 8 | config[0], SIZE / 512, SIZE / 512 + 63);
		assert_int_equal(config[34], 2);
		vhost_close(b);
		qsd_end(&qsd);
	}
	kill(server, SIGTERM);
	assert_int_equal(waitpid(server, NULL, 0), server);
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
	assert_int_equal(chdir(old), 0);
	free(old);
}

/* One that does not answer has no more time than others, and then no more of the guest's memory. */
static void one_that_does_not_answer_is_killed(void **state)
{
	struct qsd qsd = { .config = { .path = at("stuck.img"), .queues = 1 } };
	const struct vhost_user_config config = {
		.path = QSD_PROGRAM,
		.config_len = 60,
		.connect = qsd_connect,
		.revoke = qsd_kill,
		.arg = &qsd,
	};
	char how[CHILD_HOW], command[64];
	uint8_t bytes[60] = { 0 };
	struct error err = { .status = 0 };
	struct vhost *b;

	if (!has_tools())
		skip();
	assert_int_equal(shell("qemu-img create -q -f raw stuck.img 8M"), 0);
	if (vhost_user_open(&config, &b, &err))
		fail_msg("%s", err.text);
	snprintf(command, sizeof(command), "pkill -STOP -P %d qemu-storage", (int)getpid());
	assert_int_equal(shell(command), 0);
	assert_int_equal(b->ops->config_write(b, 0, sizeof(bytes), bytes), -ETIMEDOUT);
	assert_true(qsd_ended(&qsd, how));
	assert_non_null(strstr(how, "killed by signal 9"));
	vhost_close(b);
	qsd_end(&qsd);
}

/* QEMU's locks of who writes are for reading. */
static void one_that_writes_what_lies_below(void **state)
{
	struct qsd qsd = { .config = { .queues = 1 } };
	struct error err = { .status = 0 };
	bool told = false;
	struct vhost *b;
	char path[256];
	int fd, again;

	if (!has_tools())
		skip();
	assert_int_equal(
		shell("qemu-img create -q -f raw q.img 8M && qemu-img create -q -f qcow2 -F raw -b q.img q.qcow2"), 0);
	snprintf(path, sizeof(path), "%s", at("q.img"));
	qsd.config.path = path;
	/* Others who read it do no harm. */
	fd = open(at("q.img"), O_RDONLY);
	again = open(at("q.img"), O_RDONLY);
	assert_int_equal(disk_lock(fd, "q.img", true, &told, &err), 0);
	assert_int_equal(disk_lock(again, "q.img", true, &told, &err), 0);
	assert_int_equal(disk_chain_check(at("q.qcow2"), disk_format_named("qcow2"), &told, &err), 0);
	close(fd);
	close(again);
	qsd.config.ro = true;
	if (open_disk(&qsd, &b, &err))
		fail_msg("%s", err.text);
	assert_int_equal(disk_chain_check(at("q.qcow2"), disk_format_named("qcow2"), &told, &err), 0);
	vhost_close(b);
	qsd_end(&qsd);
	qsd.config.ro = false;
	if (open_disk(&qsd, &b, &err))
		fail_msg("%s", err.text);
	assert_int_equal(disk_chain_check(at("q.qcow2"), disk_format_named("qcow2"), &told, &err), -EBUSY);
	if (!strstr(err.text, "q.img': in use by this guest already"))
		fail_msg("%s", err.text);
	vhost_close(b);
	qsd_end(&qsd);
}

#define OF(field) ((unsigned)offsetof(struct seccomp_data, field))

/*
 * From here on, and for who is started, no file system has locks of open file
 * descriptions. False: that cannot be had here.
 */
static bool without_locks(void)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, OF(nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_fcntl, 0, 3),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, OF(args[1])),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, F_OFD_SETLK, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOLCK),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	const struct sock_fprog filter = { .len = sizeof(code) / sizeof(code[0]), .filter = code };

	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) == 0;
}

/* In a process of its own: lives of a device whose disk, and what lies below it, cannot be locked. */
static __attribute__((noreturn)) void live_without_locks(int words)
{
	struct qsd qsd = { .config = { .path = at("n.qcow2"), .format = disk_format_named("qcow2"), .queues = 1 } };
	struct error err = { .status = 0 };

	if (dup2(words, STDERR_FILENO) < 0 || !without_locks())
		_exit(77);
	for (unsigned life = 0; life < 3; life++) {
		int fd = qsd_connect(&qsd, &err);

		if (fd < 0)
			_exit(1);
		close(fd);
		qsd_kill(&qsd);
	}
	qsd_end(&qsd);
	_exit(0);
}

static void that_there_are_no_locks_is_said_once(void **state)
{
	static const char line[] = "cannot be locked against another run: No locks available";
	char text[4096] = "", *first;
	int words[2], status;
	ssize_t n;
	pid_t pid;

	if (!has_tools())
		skip();
	assert_int_equal(
		shell("qemu-img create -q -f raw n.img 8M && qemu-img create -q -f qcow2 -F raw -b n.img n.qcow2"), 0);
	assert_int_equal(pipe2(words, O_CLOEXEC), 0);
	pid = fork();
	if (pid == 0)
		live_without_locks(words[1]);
	close(words[1]);
	for (size_t len = 0; len < sizeof(text) - 1; len += (size_t)n) {
		n = read(words[0], text + len, sizeof(text) - 1 - len);
		if (n <= 0)
			break;
	}
	close(words[0]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
		skip();
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
	first = strstr(text, line);
	assert_non_null(first);
	assert_null(strstr(first + 1, line));
}

static void images_that_it_cannot_serve(void **state)
{
	struct qsd qsd = { .config = { .path = at("bad.qcow2"), .format = disk_format_named("qcow2"), .queues = 1 } };
	struct qsd other = qsd;
	struct error err = { .status = 0 };
	char how[CHILD_HOW], *path = strdup(getenv("PATH"));
	struct vhost *b, *b2;

	if (!has_tools())
		skip();
	make("bad.qcow2", "QFI\xfb\0\0\0\011", 8);
	assert_true(open_disk(&qsd, &b, &err) < 0);
	assert_true(qsd_ended(&qsd, how));
	assert_string_equal(how, "ended with status 1: Unsupported qcow2 version 9");
	qsd_end(&qsd);
	setenv("PATH", "/nonexistent", 1);
	assert_int_equal(open_disk(&qsd, &b, &err), -ENOENT);
	setenv("PATH", path, 1);
	assert_non_null(strstr(err.text, QSD_PROGRAM ": not installed"));
	assert_non_null(strstr(err.hint, "apt install qemu-system-common"));
	/* Another disk's program has it. */
	assert_int_equal(shell("qemu-img create -q -f qcow2 bad.qcow2 8M"), 0);
	assert_int_equal(open_disk(&qsd, &b, &err), 0);
	assert_true(open_disk(&other, &b2, &err) < 0);
	assert_false(qsd_ended(&other, how));
	assert_non_null(strstr(err.text, "in use by this guest already"));
	qsd_end(&other);
	vhost_close(b);
	qsd_end(&qsd);
	free(path);
}

static int set_up(void **state)
{
	return !mkdtemp(folder) || unit_adopt(state);
}

static int tear_down(void **state)
{
	(void)shell("rm -rf -- \"$PWD\"");
	return unit_release(state);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(begin_and_name_have_to_agree),
		cmocka_unit_test(formats_of_qemu_img),
		cmocka_unit_test(what_lies_below_is_not_guessed),
		cmocka_unit_test(chains_are_checked),
		cmocka_unit_test(names_from_here),
		cmocka_unit_test(a_chain_that_is_written),
		cmocka_unit_test(uris),
		cmocka_unit_test(its_words),
		cmocka_unit_test(it_serves_what_there_is),
		cmocka_unit_test(one_that_does_not_answer_is_killed),
		cmocka_unit_test(one_that_writes_what_lies_below),
		cmocka_unit_test(that_there_are_no_locks_is_said_once),
		cmocka_unit_test(images_that_it_cannot_serve),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
