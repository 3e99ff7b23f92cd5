/* SPDX-License-Identifier: BSD-2-Clause */
/* test_serial.c - the serial port on a bus: output that waits for a slow reader, input that waits for the guest. */
#include "dev_rig.h"

#include <fcntl.h>
#include <unistd.h>

#include "core/chardev.h"
#include "dev/serial.h"
#include "dev/uart16550.h"

#define CHAR_NS (10 * NSEC_PER_SEC / 115200) /* 8N1 at divisor 1 */

static struct rig *serial_rig(struct chardev *chardev)
{
	struct rig *rig = rig_new(0);
	struct serial_config config = { .chardev = chardev };

	rig_add(rig, &serial_type, &config);
	return rig;
}

/* On a line whose host side is `chardev`; what comes out goes to `out` (-1: nowhere), by hand, as there is no loop. */
static struct rig *line_rig(struct chardev *chardev, int out)
{
	assert_int_equal(chardev_init(chardev, NULL, -1, out), 0);
	return serial_rig(chardev);
}

static void line_free(struct rig *rig, struct chardev *chardev)
{
	rig_free(rig);
	chardev_fini(chardev);
}

static void feed(struct chardev *chardev, const char *text)
{
	assert_int_equal(chardev_feed(chardev, (const uint8_t *)text, (unsigned)strlen(text)), strlen(text));
}

static bool received(struct rig *rig)
{
	return rig_read(rig, 0, UART_LSR, 1) & UART_LSR_DR;
}

static bool sendable(struct rig *rig)
{
	return rig_read(rig, 0, UART_LSR, 1) & UART_LSR_THRE;
}

static void send_all(struct rig *rig, char byte)
{
	while (sendable(rig))
		rig_write(rig, 0, UART_DATA, 1, byte);
}

static void test_serial_nowhere(void **state)
{
	struct rig *rig = serial_rig(NULL);

	for (unsigned i = 0; i < 100000; i++)
		rig_write(rig, 0, UART_DATA, 1, 'x');
	assert_int_equal(rig_read(rig, 0, UART_LSR, 1), 0x60);
	assert_int_equal(rig_read(rig, 0, UART_SCR, 1), 0);
	rig_write(rig, 0, UART_SCR, 1, 0x5a);
	/* Wider accesses are cut into bytes by the bus. */
	assert_int_equal(rig_read(rig, 0, UART_MSR, 2), 0x5ab0);
	rig_restore(rig);
	assert_int_equal(rig_read(rig, 0, UART_SCR, 1), 0x5a);
	device_reset(rig->dev);
	assert_int_equal(rig_read(rig, 0, UART_SCR, 1), 0);
	rig_free(rig);
}

static void test_serial_input(void **state)
{
	struct chardev chardev;
	struct rig *rig = line_rig(&chardev, -1);
	char text[101];

	for (unsigned i = 0; i < 100; i++)
		text[i] = 'a' + i % 26;
	/* What is there before the guest listens survives a driver's opening of the port. */
	assert_int_equal(chardev_feed(&chardev, (uint8_t *)text, 100), 100);
	rig_write(rig, 0, UART_IIR_FCR, 1, 0x07);
	rig_write(rig, 0, UART_IER, 1, 0x0f);
	rig_write(rig, 0, UART_IER, 1, 0x00);
	rig_read(rig, 0, UART_LSR, 1);
	rig_read(rig, 0, UART_DATA, 1);
	clock_step(&rig->vm.clock, NSEC_PER_SEC);
	assert_int_equal(rig_read(rig, 0, UART_LSR, 1), 0x60);
	/* It comes with RTS, as much as fits, and the rest as it is read. */
	rig_write(rig, 0, UART_IER, 1, UART_IER_RX);
	rig_write(rig, 0, UART_MCR, 1, UART_MCR_RTS);
	assert_true(rig_level(rig, 0));
	for (unsigned i = 0; i < 100; i++) {
		assert_int_equal(rig_read(rig, 0, UART_LSR, 1), 0x61);
		assert_int_equal(rig_read(rig, 0, UART_DATA, 1), text[i]);
	}
	assert_int_equal(rig_read(rig, 0, UART_LSR, 1), 0x60);
	assert_false(rig_level(rig, 0));
	/* Later input comes by itself; below the trigger, after the timeout. */
	rig_write(rig, 0, UART_IIR_FCR, 1, 0x81);
	feed(&chardev, "z");
	assert_false(rig_level(rig, 0));
	clock_step(&rig->vm.clock, 4 * CHAR_NS + 100);
	assert_true(rig_level(rig, 0));
	assert_int_equal(rig_read(rig, 0, UART_IIR_FCR, 1), 0xcc);
	assert_int_equal(rig_read(rig, 0, UART_DATA, 1), 'z');
	assert_false(rig_level(rig, 0));
	line_free(rig, &chardev);
}

/* Guests that know nothing of RTS: by interrupt, and by polling. */
static void test_serial_listeners(void **state)
{
	struct chardev chardev;
	struct rig *rig = line_rig(&chardev, -1);
	unsigned polls = 0;

	feed(&chardev, "ab");
	rig_write(rig, 0, UART_IER, 1, UART_IER_RX);
	assert_int_equal(rig_read(rig, 0, UART_LSR, 1), 0x60);
	clock_step(&rig->vm.clock, NSEC_PER_SEC / 10);
	assert_true(rig_level(rig, 0));
	assert_int_equal(rig_read(rig, 0, UART_DATA, 1), 'a');
	assert_true(rig_level(rig, 0));
	assert_int_equal(rig_read(rig, 0, UART_DATA, 1), 'b');
	assert_false(rig_level(rig, 0));
	rig_write(rig, 0, UART_IER, 1, 0);
	feed(&chardev, "c");
	while (!received(rig))
		assert_true(++polls < 100);
	assert_true(polls > 1);
	assert_int_equal(rig_read(rig, 0, UART_DATA, 1), 'c');
	line_free(rig, &chardev);
}

/* Where OUT2 gates the interrupt a probe never counts, however long its vCPU is kept from ending it. */
static void test_serial_listens_behind_out2(void **state)
{
	struct chardev chardev;
	struct serial_config config = { .chardev = &chardev, .out2_gates_irq = true };
	struct rig *rig = rig_new(0);

	assert_int_equal(chardev_init(&chardev, NULL, -1, -1), 0);
	rig_add(rig, &serial_type, &config);
	feed(&chardev, "a");
	rig_write(rig, 0, UART_IER, 1, 0x0f);
	clock_step(&rig->vm.clock, NSEC_PER_SEC);
	assert_false(received(rig));
	rig_write(rig, 0, UART_IER, 1, 0);
	rig_write(rig, 0, UART_MCR, 1, UART_MCR_OUT2);
	assert_false(received(rig));
	/* Linux opens a port so, without RTS at first: the FIFO is emptied as it goes on. */
	rig_write(rig, 0, UART_IER, 1, UART_IER_RX | UART_IER_LINE);
	assert_false(received(rig));
	rig_write(rig, 0, UART_IIR_FCR, 1, 0x01);
	rig_write(rig, 0, UART_IIR_FCR, 1, 0x81);
	clock_step(&rig->vm.clock, 4 * CHAR_NS + 100);
	assert_true(received(rig));
	assert_true(rig_level(rig, 0));
	assert_int_equal(rig_read(rig, 0, UART_DATA, 1), 'a');
	/* Without a FIFO, after a while. */
	rig_write(rig, 0, UART_IER, 1, 0);
	rig_write(rig, 0, UART_IIR_FCR, 1, 0);
	feed(&chardev, "b");
	rig_write(rig, 0, UART_IER, 1, UART_IER_RX);
	assert_false(received(rig));
	clock_step(&rig->vm.clock, NSEC_PER_SEC / 10);
	assert_true(rig_level(rig, 0));
	assert_int_equal(rig_read(rig, 0, UART_DATA, 1), 'b');
	line_free(rig, &chardev);
}

/*
 * Firmware looks for input now and then, by other registers too, and answers each key: it need not prove itself again.
 * The next driver, which sets the FIFO up, has to.
 */
static void test_serial_firmware(void **state)
{
	struct chardev chardev;
	struct rig *rig = line_rig(&chardev, -1);
	unsigned looks = 0;

	rig_write(rig, 0, UART_MCR, 1, 0);
	feed(&chardev, "abc");
	while (!received(rig)) {
		(void)rig_read(rig, 0, UART_MSR, 1);
		(void)rig_read(rig, 0, UART_MCR, 1);
		assert_true(++looks < 100);
	}
	assert_int_equal(rig_read(rig, 0, UART_DATA, 1), 'a');
	rig_write(rig, 0, UART_DATA, 1, 'a');
	assert_true(received(rig));
	assert_int_equal(rig_read(rig, 0, UART_DATA, 1), 'b');
	assert_true(received(rig));
	assert_int_equal(rig_read(rig, 0, UART_DATA, 1), 'c');

	rig_write(rig, 0, UART_IIR_FCR, 1, 7);
	feed(&chardev, "d");
	assert_false(received(rig));
	rig_write(rig, 0, UART_MCR, 1, UART_MCR_RTS);
	assert_true(received(rig));
	line_free(rig, &chardev);
}

/* A driver that reads on for as long as there is something comes to an end, and has time for what it read. */
static void test_serial_bursts(void **state)
{
	const uint64_t step = 10000;
	struct chardev chardev;
	struct rig *rig = line_rig(&chardev, -1);
	unsigned got = 0, bursts = 0;
	char text[200];

	for (unsigned i = 0; i < sizeof(text); i++)
		text[i] = (char)('a' + i % 26);
	rig_write(rig, 0, UART_IIR_FCR, 1, 0x07);
	rig_write(rig, 0, UART_IER, 1, UART_IER_RX);
	rig_write(rig, 0, UART_MCR, 1, UART_MCR_RTS);
	assert_int_equal(chardev_feed(&chardev, (uint8_t *)text, sizeof(text)), sizeof(text));
	rig->dev->type->start(rig->dev);
	while (got < sizeof(text)) {
		unsigned n = 0;
		uint64_t began = clock_now(&rig->vm.clock);

		while (received(rig)) {
			assert_int_equal(rig_read(rig, 0, UART_DATA, 1), text[got++]);
			clock_step(&rig->vm.clock, step);
			n++;
		}
		assert_int_equal(n, bursts < sizeof(text) / UART_FIFO ? UART_FIFO : sizeof(text) % UART_FIFO);
		bursts++;
		if (got == sizeof(text))
			break;
		/* The last byte was read a step before the end of the loop. */
		began = clock_now(&rig->vm.clock) - began - step;
		clock_step(&rig->vm.clock, began - step - 1);
		assert_false(received(rig));
		assert_false(rig_level(rig, 0));
		clock_step(&rig->vm.clock, 2);
		assert_true(rig_level(rig, 0));
	}
	/* What a hand types is there at once, however fast the guest was before. */
	for (unsigned i = 0; i < 100; i++) {
		feed(&chardev, "k");
		rig->dev->type->start(rig->dev);
		assert_true(received(rig));
		assert_int_equal(rig_read(rig, 0, UART_DATA, 1), 'k');
		clock_step(&rig->vm.clock, step);
	}
	/* A guest that is kept from reading for long is not punished for it. */
	assert_int_equal(chardev_feed(&chardev, (uint8_t *)text, 32), 32);
	rig->dev->type->start(rig->dev);
	for (unsigned i = 0; i < 16; i++) {
		clock_step(&rig->vm.clock, NSEC_PER_SEC);
		assert_true(received(rig));
		(void)rig_read(rig, 0, UART_DATA, 1);
	}
	assert_false(received(rig));
	clock_step(&rig->vm.clock, NSEC_PER_SEC / 100);
	assert_true(received(rig));
	line_free(rig, &chardev);
}

/* A driver that lets RTS fall has no room: it gets what is in the FIFO, and no more until it has. */
static void test_serial_rts(void **state)
{
	struct chardev chardev;
	struct rig *rig = line_rig(&chardev, -1);

	rig_write(rig, 0, UART_IIR_FCR, 1, 0x07);
	rig_write(rig, 0, UART_IER, 1, UART_IER_RX);
	rig_write(rig, 0, UART_MCR, 1, UART_MCR_RTS);
	feed(&chardev, "ab");
	rig->dev->type->start(rig->dev);
	rig_write(rig, 0, UART_MCR, 1, 0);
	feed(&chardev, "cd");
	rig->dev->type->start(rig->dev);
	assert_int_equal(rig_read(rig, 0, UART_DATA, 1), 'a');
	assert_int_equal(rig_read(rig, 0, UART_DATA, 1), 'b');
	clock_step(&rig->vm.clock, NSEC_PER_SEC);
	assert_false(received(rig));
	rig_write(rig, 0, UART_MCR, 1, UART_MCR_RTS);
	assert_int_equal(rig_read(rig, 0, UART_DATA, 1), 'c');
	assert_int_equal(rig_read(rig, 0, UART_DATA, 1), 'd');
	/* One that has only tried it out, in loopback, means nothing by it. */
	rig_write(rig, 0, UART_MCR, 1, 0);
	rig_write(rig, 0, UART_IIR_FCR, 1, 0x07);
	rig_write(rig, 0, UART_MCR, 1, UART_MCR_RTS | UART_MCR_LOOP);
	rig_write(rig, 0, UART_MCR, 1, 0);
	clock_step(&rig->vm.clock, NSEC_PER_SEC);
	feed(&chardev, "e");
	rig->dev->type->start(rig->dev);
	assert_true(received(rig));
	line_free(rig, &chardev);
}

static void *run_loop(void *arg)
{
	loop_run(arg);
	return NULL;
}

/* A reader that does not read: nothing is lost, and nobody waits but by the transmitter's status. */
static void test_serial_slow_reader(void **state)
{
	struct rig *rig = rig_new(0);
	struct serial_config config = { .line = 2 };
	static uint8_t buf[4096];
	struct chardev chardev;
	unsigned written = 0, got = 0, waited = 0;
	pthread_t thread;
	int fds[2];

	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	assert_int_equal(chardev_init(&chardev, &rig->vm.loop, -1, fds[1]), 0);
	rig->vm.ports[2] = &chardev;
	rig_add(rig, &serial_type, &config);
	assert_int_equal(thread_start(&thread, "loop", run_loop, &rig->vm.loop), 0);
	rig_write(rig, 0, UART_IIR_FCR, 1, 0x01);
	rig_write(rig, 0, UART_IER, 1, UART_IER_TX);
	while (sendable(rig)) {
		for (unsigned i = 0; i < UART_FIFO; i++)
			rig_write(rig, 0, UART_DATA, 1, written++ % 251);
		assert_true(written < 4 * CHARDEV_OUT_SIZE);
	}
	assert_true(written > CHARDEV_OUT_SIZE);
	/* The reader comes to life. */
	while (got < written) {
		ssize_t n = read(fds[0], buf, sizeof(buf));

		assert_true(n > 0);
		for (ssize_t i = 0; i < n; i++)
			assert_int_equal(buf[i], got++ % 251);
	}
	assert_int_equal(got, written);
	assert_int_equal(chardev.dropped, 0);
	while (!sendable(rig) && waited++ < 20000)
		usleep(1000);
	assert_true(rig_level(rig, 0));
	loop_quit(&rig->vm.loop);
	pthread_join(thread, NULL);
	chardev_fini(&chardev);
	rig_free(rig);
	close(fds[0]);
	close(fds[1]);
}

/* Waiting for the transmitter is not looking for input: what is typed ahead stays where it is. */
static void test_serial_blocked(void **state)
{
	struct chardev chardev;
	struct rig *rig;
	int fds[2];

	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	rig = line_rig(&chardev, fds[1]);
	send_all(rig, 'x');
	feed(&chardev, "a");
	for (unsigned i = 0; i < 1000; i++)
		assert_int_equal(rig_read(rig, 0, UART_LSR, 1), 0);
	line_free(rig, &chardev);
	close(fds[0]);
	close(fds[1]);
}

/* A reader that stopped does not hold up who polls for long; who waits for an interrupt waits as long as it takes. */
static void test_serial_patience(void **state)
{
	struct chardev chardev;
	struct rig *rig;
	int fds[2];

	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	rig = line_rig(&chardev, fds[1]);
	send_all(rig, 'x');
	clock_step(&rig->vm.clock, NSEC_PER_SEC / 10);
	assert_false(sendable(rig));
	assert_int_equal(chardev.dropped, 0);
	rig_write(rig, 0, UART_IER, 1, UART_IER_TX);
	clock_step(&rig->vm.clock, 100 * NSEC_PER_SEC);
	assert_false(sendable(rig));
	assert_int_equal(chardev.dropped, 0);
	rig_write(rig, 0, UART_IER, 1, 0);
	/* Now it is gone, and so is all that follows, at once. */
	for (unsigned i = 1; i <= 100; i++) {
		assert_true(sendable(rig));
		assert_int_equal(chardev.dropped, i);
		rig_write(rig, 0, UART_DATA, 1, 'y');
	}
	/* The reader has caught up: it is waited for again. */
	chardev_flush(&chardev, 0);
	assert_int_equal(chardev.dropped, 101);
	send_all(rig, 'z');
	assert_int_equal(chardev.dropped, 101);
	line_free(rig, &chardev);
	close(fds[0]);
	close(fds[1]);
}

/* A break, and the key after it, pass what waits for a guest that does not read; a full chip gets them when it can. */
static void test_serial_break(void **state)
{
	struct chardev chardev;
	struct rig *rig = line_rig(&chardev, -1);

	feed(&chardev, "typed ahead, long ago");
	chardev.broken(chardev.broken_arg, 'h');
	/* Without FIFOs there is room for one byte at a time. */
	assert_int_equal(rig_read(rig, 0, UART_LSR, 1), 0x60 | UART_LSR_DR | UART_LSR_BI);
	assert_int_equal(rig_read(rig, 0, UART_LSR, 1), 0x60 | UART_LSR_DR);
	assert_int_equal(rig_read(rig, 0, UART_DATA, 1), 0);
	assert_int_equal(rig_read(rig, 0, UART_DATA, 1), 'h');
	assert_int_equal(rig_read(rig, 0, UART_LSR, 1), 0x60);
	/* With FIFOs, full. */
	rig_write(rig, 0, UART_IIR_FCR, 1, UART_FCR_ENABLE);
	rig_write(rig, 0, UART_MCR, 1, UART_MCR_RTS);
	chardev.broken(chardev.broken_arg, 's');
	for (unsigned i = 0; i < UART_FIFO; i++)
		assert_int_equal(rig_read(rig, 0, UART_DATA, 1), "typed ahead, long ago"[i]);
	assert_int_equal(rig_read(rig, 0, UART_LSR, 1) & UART_LSR_BI, UART_LSR_BI);
	assert_int_equal(rig_read(rig, 0, UART_DATA, 1), 0);
	assert_int_equal(rig_read(rig, 0, UART_DATA, 1), 's');
	assert_int_equal(rig_read(rig, 0, UART_DATA, 1), 'g');
	line_free(rig, &chardev);
}

static void test_serial_reset(void **state)
{
	struct rig *rig = serial_rig(NULL);

	rig_write(rig, 0, UART_IER, 1, UART_IER_TX);
	assert_true(rig_level(rig, 0));
	device_reset(rig->dev);
	assert_false(rig_level(rig, 0));
	rig_write(rig, 0, UART_IER, 1, UART_IER_TX);
	assert_true(rig_level(rig, 0));
	assert_int_equal(rig_rises(rig, 0), 2);
	/* A restored chip drives its wire as it did. */
	rig_restore(rig);
	assert_true(rig_level(rig, 0));
	rig_free(rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_serial_nowhere),
		cmocka_unit_test(test_serial_input),
		cmocka_unit_test(test_serial_listeners),
		cmocka_unit_test(test_serial_bursts),
		cmocka_unit_test(test_serial_rts),
		cmocka_unit_test(test_serial_listens_behind_out2),
		cmocka_unit_test(test_serial_firmware),
		cmocka_unit_test(test_serial_slow_reader),
		cmocka_unit_test(test_serial_blocked),
		cmocka_unit_test(test_serial_patience),
		cmocka_unit_test(test_serial_break),
		cmocka_unit_test(test_serial_reset),
	};

	return cmocka_run_group_tests(tests, unit_adopt, unit_release);
}
