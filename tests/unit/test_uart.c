/* SPDX-License-Identifier: BSD-2-Clause */
/* test_uart.c - the 16550A chip alone. */
#include "dev_rig.h"

#include "dev/uart16550.h"

#define CHAR_NS (10 * NSEC_PER_SEC / 115200) /* 8N1 at divisor 1 */

/* The chip's surroundings. */
struct wire {
	struct uart16550 uart;
	uint8_t sent[4096];
	unsigned nr_sent, room, rises, wakes, lines;
	bool level, low;
	uint64_t now, wake_at;
};

static void wire_irq(void *arg, bool level)
{
	struct wire *wire = arg;

	wire->rises += level && !wire->level;
	wire->level = level;
}

static bool wire_room(void *arg)
{
	return ((struct wire *)arg)->room > 0;
}

static void wire_send(void *arg, uint8_t byte)
{
	struct wire *wire = arg;

	assert_true(wire->room > 0 && wire->nr_sent < sizeof(wire->sent));
	wire->sent[wire->nr_sent++] = byte;
	wire->room--;
}

static uint64_t wire_now(void *arg)
{
	return ((struct wire *)arg)->now;
}

static void wire_wake(void *arg, uint64_t deadline)
{
	struct wire *wire = arg;

	wire->wake_at = deadline;
	wire->wakes++;
}

static void wire_line(void *arg, bool low)
{
	struct wire *wire = arg;

	assert_true(low != wire->low);
	wire->low = low;
	wire->lines++;
}

static const struct uart16550_ops wire_ops = {
	.irq = wire_irq, .room = wire_room, .send = wire_send, .now = wire_now, .wake = wire_wake, .line = wire_line
};

static struct wire *wire_new(bool out2_gates)
{
	struct wire *wire = calloc(1, sizeof(*wire));

	assert_non_null(wire);
	wire->room = sizeof(wire->sent);
	wire->wake_at = CLOCK_NEVER;
	uart16550_init(&wire->uart, &wire_ops, wire, 1843200, out2_gates);
	uart16550_sync(&wire->uart);
	return wire;
}

/* Time passes; wake-ups that fall due are delivered at their times. */
static void wire_step(struct wire *wire, uint64_t ns)
{
	uint64_t end = wire->now + ns;

	while (wire->wake_at <= end) {
		wire->now = wire->wake_at > wire->now ? wire->wake_at : wire->now;
		wire->wake_at = CLOCK_NEVER;
		uart16550_tick(&wire->uart);
	}
	wire->now = end;
}

static uint8_t in(struct wire *wire, unsigned reg)
{
	return uart16550_read(&wire->uart, reg);
}

static void out(struct wire *wire, unsigned reg, uint8_t value)
{
	uart16550_write(&wire->uart, reg, value);
}

static void receive(struct wire *wire, const char *text)
{
	for (; *text; text++)
		uart16550_receive(&wire->uart, (uint8_t)*text, 0);
}

static void test_power_on(void **state)
{
	struct wire *wire = wire_new(false);

	assert_int_equal(in(wire, UART_IER), 0);
	assert_int_equal(in(wire, UART_IIR_FCR), UART_IIR_NONE);
	assert_int_equal(in(wire, UART_LCR), 0);
	assert_int_equal(in(wire, UART_MCR), 0);
	assert_int_equal(in(wire, UART_LSR), UART_LSR_THRE | UART_LSR_TEMT);
	assert_int_equal(in(wire, UART_MSR), UART_MSR_CTS | UART_MSR_DSR | UART_MSR_DCD);
	assert_false(wire->level);
	assert_int_equal(in(wire, 8), 0xff);
	out(wire, 8, 0);
	free(wire);
}

static void test_registers(void **state)
{
	struct wire *wire = wire_new(false);

	out(wire, UART_SCR, 0xa5);
	assert_int_equal(in(wire, UART_SCR), 0xa5);
	/* Line control reads back as written, all of it. */
	for (unsigned v = 0; v < 256; v++) {
		out(wire, UART_LCR, v);
		assert_int_equal(in(wire, UART_LCR), v);
	}
	out(wire, UART_LCR, UART_LCR_DLAB);
	out(wire, UART_DATA, 0x34);
	out(wire, UART_IER, 0x12);
	out(wire, UART_LCR, 0x03);
	assert_int_equal(wire->nr_sent, 0);
	assert_int_equal(in(wire, UART_IER), 0);
	out(wire, UART_IER, 0xff);
	assert_int_equal(in(wire, UART_IER), 0x0f);
	out(wire, UART_LCR, 0x83);
	assert_int_equal(in(wire, UART_DATA), 0x34);
	assert_int_equal(in(wire, UART_IER), 0x12);
	out(wire, UART_LCR, 0x03);
	out(wire, UART_MCR, 0xff);
	assert_int_equal(in(wire, UART_MCR), 0x1f);
	/* LSR and MSR are not for writing. */
	out(wire, UART_MCR, 0);
	in(wire, UART_MSR);
	out(wire, UART_LSR, 0);
	out(wire, UART_MSR, 0);
	assert_int_equal(in(wire, UART_LSR), 0x60);
	assert_int_equal(in(wire, UART_MSR), 0xb0);
	free(wire);
}

/* The steps of Linux's 8250 autoconfig, whose every branch must lead to a plain 16550A. */
static void test_linux_autoconfig(void **state)
{
	struct wire *wire = wire_new(false);
	uint8_t status1, status2;

	out(wire, UART_IER, 0);
	assert_int_equal(in(wire, UART_IER) & 0x0f, 0);
	out(wire, UART_IER, 0x0f);
	assert_int_equal(in(wire, UART_IER) & 0x0f, 0x0f);
	out(wire, UART_IER, 0);
	/* Loopback test. */
	out(wire, UART_MCR, UART_MCR_LOOP | 0x0a);
	assert_int_equal(in(wire, UART_MSR) & 0xf0, 0x90);
	out(wire, UART_MCR, 0);
	/* FIFO identification, behind the EFR of other chips. */
	out(wire, UART_LCR, 0xbf);
	out(wire, UART_IIR_FCR, 0);
	out(wire, UART_LCR, 0);
	out(wire, UART_IIR_FCR, UART_FCR_ENABLE);
	assert_int_equal(in(wire, UART_IIR_FCR) >> 6, 3);
	/* Not a 16650: no EFR shows as zero, in neither configuration mode. */
	out(wire, UART_LCR, 0x80);
	assert_int_not_equal(in(wire, UART_IIR_FCR), 0);
	out(wire, UART_LCR, 0xbf);
	assert_int_not_equal(in(wire, UART_IIR_FCR), 0);
	/* Not a National super-I/O: register 2 of bank 2 does not follow MCR's loop bit. */
	out(wire, UART_LCR, 0);
	status1 = in(wire, UART_MCR);
	out(wire, UART_LCR, 0xe0);
	status2 = in(wire, 2);
	assert_false((status1 ^ status2) & UART_MCR_LOOP);
	out(wire, UART_LCR, 0);
	out(wire, UART_MCR, status1 ^ UART_MCR_LOOP);
	out(wire, UART_LCR, 0xe0);
	status2 = in(wire, 2);
	out(wire, UART_LCR, 0);
	out(wire, UART_MCR, status1);
	assert_false((status1 ^ status2) & UART_MCR_LOOP);
	/* Not a 16750: a 64-byte FIFO cannot be turned on. */
	out(wire, UART_IIR_FCR, UART_FCR_ENABLE | 0x20);
	assert_int_equal(in(wire, UART_IIR_FCR) >> 5, 6);
	out(wire, UART_LCR, 0x80);
	out(wire, UART_IIR_FCR, UART_FCR_ENABLE | 0x20);
	assert_int_equal(in(wire, UART_IIR_FCR) >> 5, 6);
	out(wire, UART_LCR, 0);
	/* Not an XScale: IER bit 6 does not stick. */
	out(wire, UART_IER, 0x40);
	assert_int_equal(in(wire, UART_IER), 0);
	free(wire);
}

/* Linux's test for chips that forget the transmitter interrupt (UART_BUG_THRE, UART_BUG_TXEN). */
static void test_linux_thre(void **state)
{
	struct wire *wire = wire_new(false);

	out(wire, UART_IIR_FCR, UART_FCR_ENABLE);
	out(wire, UART_IER, UART_IER_TX);
	assert_int_equal(in(wire, UART_IIR_FCR) & 0x3f, UART_IIR_TX);
	out(wire, UART_IER, 0);
	out(wire, UART_IER, UART_IER_TX);
	assert_int_equal(in(wire, UART_IIR_FCR) & 0x3f, UART_IIR_TX);
	assert_int_equal(in(wire, UART_IIR_FCR) & 0x3f, UART_IIR_NONE);
	free(wire);
}

static void test_transmit(void **state)
{
	struct wire *wire = wire_new(false);

	out(wire, UART_DATA, 'a');
	assert_int_equal(in(wire, UART_LSR), 0x60);
	assert_memory_equal(wire->sent, "a", 1);
	assert_false(wire->level);
	out(wire, UART_IER, UART_IER_TX);
	assert_true(wire->level);
	/* Reading IIR withdraws it only if it is what IIR shows. */
	assert_int_equal(in(wire, UART_IIR_FCR), UART_IIR_TX);
	assert_false(wire->level);
	assert_int_equal(in(wire, UART_IIR_FCR), UART_IIR_NONE);
	/* Each byte that leaves brings it back. */
	out(wire, UART_DATA, 'b');
	assert_true(wire->level);
	uart16550_receive(&wire->uart, 'x', 0);
	out(wire, UART_IER, UART_IER_TX | UART_IER_RX);
	assert_int_equal(in(wire, UART_IIR_FCR), UART_IIR_RX);
	in(wire, UART_DATA);
	assert_int_equal(in(wire, UART_IIR_FCR), UART_IIR_TX);
	assert_false(wire->level);
	free(wire);
}

/*
 * A driver that answers the interrupt with data and never reads IIR still gets an edge for each: without FIFOs for
 * each byte, with FIFOs for each FIFO's worth or whenever it looks at another register between.
 */
static void test_transmit_edges(void **state)
{
	struct wire *wire = wire_new(false);
	unsigned before;

	out(wire, UART_IER, UART_IER_TX);
	for (unsigned i = 0; i < 100; i++) {
		before = wire->rises;
		out(wire, UART_DATA, i);
		assert_int_equal(wire->rises, before + 1);
	}
	out(wire, UART_IIR_FCR, UART_FCR_ENABLE);
	for (unsigned i = 0; i < 10; i++) {
		before = wire->rises;
		for (unsigned j = 0; j < UART_FIFO; j++)
			out(wire, UART_DATA, j);
		assert_int_equal(wire->rises, before + 1);
	}
	for (unsigned i = 0; i < 10; i++) {
		before = wire->rises;
		in(wire, UART_LSR);
		out(wire, UART_DATA, i);
		out(wire, UART_DATA, i);
		assert_int_equal(wire->rises, before + 1);
	}
	assert_true(wire->level);
	free(wire);
}

static void test_slow_reader(void **state)
{
	struct wire *wire = wire_new(false);

	wire->room = 3;
	out(wire, UART_IIR_FCR, UART_FCR_ENABLE);
	out(wire, UART_IER, UART_IER_TX);
	in(wire, UART_IIR_FCR);
	/* The transmitter said that it was empty: a FIFO's worth is taken whatever the reader does. */
	for (unsigned i = 0; i < UART_FIFO; i++)
		out(wire, UART_DATA, 'A' + i);
	assert_int_equal(wire->nr_sent, 3);
	assert_int_equal(in(wire, UART_LSR) & 0x60, 0);
	assert_int_equal(in(wire, UART_IIR_FCR) & 0x3f, UART_IIR_NONE);
	assert_false(wire->level);
	wire->room = 5;
	uart16550_writable(&wire->uart);
	assert_int_equal(wire->nr_sent, 8);
	assert_int_equal(in(wire, UART_LSR) & 0x60, 0);
	assert_false(wire->level);
	wire->room = 100;
	uart16550_writable(&wire->uart);
	assert_int_equal(in(wire, UART_LSR) & 0x60, 0x60);
	assert_true(wire->level);
	assert_int_equal(wire->nr_sent, UART_FIFO);
	assert_memory_equal(wire->sent, "ABCDEFGHIJKLMNOP", UART_FIFO);
	assert_int_equal(wire->uart.tx_lost, 0);
	/* Who writes on nevertheless loses what comes too late, and only that. */
	wire->room = 0;
	for (unsigned i = 0; i < UART_FIFO + 2; i++)
		out(wire, UART_DATA, i);
	assert_int_equal(wire->uart.tx_lost, 2);
	/* Clearing the transmit FIFO empties it, and that is news too. */
	in(wire, UART_IIR_FCR);
	out(wire, UART_IIR_FCR, UART_FCR_ENABLE | UART_FCR_CLEAR_TX);
	assert_int_equal(in(wire, UART_LSR) & 0x60, 0x60);
	assert_true(wire->level);
	free(wire);
}

static void test_receive_16450(void **state)
{
	struct wire *wire = wire_new(false);

	out(wire, UART_IER, UART_IER_RX);
	assert_int_equal(uart16550_room(&wire->uart), 1);
	receive(wire, "a");
	assert_int_equal(uart16550_room(&wire->uart), 0);
	assert_true(wire->level);
	assert_int_equal(in(wire, UART_IIR_FCR), UART_IIR_RX);
	assert_int_equal(in(wire, UART_LSR), 0x61);
	/* Overrun: the new byte takes the place of the old. */
	receive(wire, "b");
	assert_int_equal(in(wire, UART_LSR), 0x63);
	assert_int_equal(in(wire, UART_LSR), 0x61);
	assert_int_equal(in(wire, UART_DATA), 'b');
	assert_false(wire->level);
	assert_int_equal(in(wire, UART_LSR), 0x60);
	assert_int_equal(in(wire, UART_DATA), 'b');
	/* No timeout without FIFOs. */
	receive(wire, "c");
	wire_step(wire, NSEC_PER_SEC);
	assert_int_equal(in(wire, UART_IIR_FCR), UART_IIR_RX);
	free(wire);
}

static void test_trigger_levels(void **state)
{
	static const uint8_t levels[4] = { 1, 4, 8, 14 };

	for (unsigned t = 0; t < 4; t++) {
		struct wire *wire = wire_new(false);

		out(wire, UART_IIR_FCR, UART_FCR_ENABLE | t << 6);
		out(wire, UART_IER, UART_IER_RX);
		for (unsigned i = 1; i <= UART_FIFO; i++) {
			assert_int_equal(uart16550_room(&wire->uart), UART_FIFO + 1 - i);
			receive(wire, "x");
			assert_int_equal(wire->level, i >= levels[t]);
			assert_int_equal(
				in(wire, UART_IIR_FCR), UART_IIR_FIFO | (i >= levels[t] ? UART_IIR_RX : UART_IIR_NONE));
		}
		for (unsigned i = UART_FIFO; i > 0; i--) {
			assert_int_equal(wire->level, i >= levels[t]);
			in(wire, UART_DATA);
		}
		assert_false(wire->level);
		free(wire);
	}
}

static void test_fifo_overrun(void **state)
{
	struct wire *wire = wire_new(false);

	out(wire, UART_IIR_FCR, UART_FCR_ENABLE);
	out(wire, UART_IER, UART_IER_LINE);
	receive(wire, "0123456789abcdef");
	assert_false(wire->level);
	receive(wire, "X");
	assert_true(wire->level);
	assert_int_equal(in(wire, UART_IIR_FCR), UART_IIR_FIFO | UART_IIR_LINE);
	assert_int_equal(in(wire, UART_LSR), 0x63);
	assert_false(wire->level);
	/* The FIFO keeps what it had. */
	for (const char *c = "0123456789abcdef"; *c; c++)
		assert_int_equal(in(wire, UART_DATA), *c);
	assert_int_equal(in(wire, UART_LSR), 0x60);
	assert_int_equal(wire->uart.rx_lost, 1);
	free(wire);
}

static void test_receive_timeout(void **state)
{
	struct wire *wire = wire_new(false);

	out(wire, UART_LCR, 0x03);
	out(wire, UART_IIR_FCR, UART_FCR_ENABLE | 0x80);
	out(wire, UART_IER, UART_IER_RX);
	receive(wire, "a");
	wire_step(wire, 3 * CHAR_NS);
	/* Another byte starts it anew. */
	receive(wire, "b");
	wire_step(wire, 3 * CHAR_NS);
	assert_false(wire->level);
	wire_step(wire, CHAR_NS + 10);
	assert_true(wire->level);
	assert_int_equal(in(wire, UART_IIR_FCR), UART_IIR_FIFO | UART_IIR_TIMEOUT);
	/* Reading IIR does not answer it; another byte does not either; a read does, and starts it anew. */
	assert_int_equal(in(wire, UART_IIR_FCR), UART_IIR_FIFO | UART_IIR_TIMEOUT);
	receive(wire, "c");
	assert_int_equal(in(wire, UART_IIR_FCR), UART_IIR_FIFO | UART_IIR_TIMEOUT);
	assert_int_equal(in(wire, UART_DATA), 'a');
	assert_false(wire->level);
	wire_step(wire, 4 * CHAR_NS + 10);
	assert_true(wire->level);
	assert_int_equal(in(wire, UART_DATA), 'b');
	assert_int_equal(in(wire, UART_DATA), 'c');
	assert_false(wire->level);
	/* An empty FIFO does not time out. */
	wire_step(wire, NSEC_PER_SEC);
	assert_false(wire->level);
	/* With the trigger reached, that is what IIR says. */
	receive(wire, "12345678");
	assert_int_equal(in(wire, UART_IIR_FCR), UART_IIR_FIFO | UART_IIR_RX);
	/* A clear takes bytes and timeout. */
	out(wire, UART_IIR_FCR, UART_FCR_ENABLE | UART_FCR_CLEAR_RX | 0x80);
	assert_int_equal(in(wire, UART_LSR), 0x60);
	wire_step(wire, NSEC_PER_SEC);
	assert_false(wire->level);
	free(wire);
}

/* The length of a character follows divisor and format; asking for a wake-up is not done for each byte. */
static void test_timeout_length(void **state)
{
	struct wire *wire = wire_new(false);
	uint64_t expect = 4ULL * 12 * 16 * 12 * NSEC_PER_SEC / 1843200;

	out(wire, UART_LCR, 0x80);
	out(wire, UART_DATA, 12);
	out(wire, UART_IER, 0);
	out(wire, UART_LCR, 0x0f); /* 8 bits, parity, 2 stop bits: 12 with the start bit */
	out(wire, UART_IIR_FCR, UART_FCR_ENABLE | 0xc0);
	out(wire, UART_IER, UART_IER_RX);
	receive(wire, "a");
	wire_step(wire, expect - 1);
	assert_false(wire->level);
	wire_step(wire, 1);
	assert_true(wire->level);
	in(wire, UART_DATA);
	wire->wakes = 0;
	receive(wire, "0123456789");
	for (unsigned i = 0; i < 10; i++)
		in(wire, UART_DATA);
	assert_in_range(wire->wakes, 0, 1);
	/* A divisor of 0 must not stop time or divide by it. */
	out(wire, UART_LCR, 0x80);
	out(wire, UART_DATA, 0);
	out(wire, UART_LCR, 0x03);
	receive(wire, "z");
	wire_step(wire, NSEC_PER_SEC);
	assert_true(wire->level);
	free(wire);
}

static void test_errors_travel(void **state)
{
	struct wire *wire = wire_new(false);

	out(wire, UART_IIR_FCR, UART_FCR_ENABLE);
	out(wire, UART_IER, UART_IER_LINE);
	uart16550_receive(&wire->uart, 'a', 0);
	uart16550_receive(&wire->uart, 'b', UART_LSR_PE);
	uart16550_receive(&wire->uart, 0, UART_LSR_BI | UART_LSR_FE);
	/* Behind the first byte: only bit 7 tells. */
	assert_false(wire->level);
	assert_int_equal(in(wire, UART_LSR), 0xe1);
	in(wire, UART_DATA);
	assert_true(wire->level);
	assert_int_equal(in(wire, UART_LSR), 0xe5);
	assert_false(wire->level);
	assert_int_equal(in(wire, UART_LSR), 0xe1);
	assert_int_equal(in(wire, UART_DATA), 'b');
	assert_int_equal(in(wire, UART_LSR), 0xf9);
	assert_int_equal(in(wire, UART_LSR), 0x61);
	in(wire, UART_DATA);
	assert_int_equal(in(wire, UART_LSR), 0x60);
	free(wire);
}

static void test_priorities(void **state)
{
	struct wire *wire = wire_new(false);

	uart16550_modem(&wire->uart, 0);
	uart16550_receive(&wire->uart, 'a', UART_LSR_PE);
	out(wire, UART_IER, 0x0f);
	assert_int_equal(in(wire, UART_IIR_FCR), UART_IIR_LINE);
	in(wire, UART_LSR);
	assert_int_equal(in(wire, UART_IIR_FCR), UART_IIR_RX);
	in(wire, UART_DATA);
	assert_int_equal(in(wire, UART_IIR_FCR), UART_IIR_TX);
	assert_int_equal(in(wire, UART_IIR_FCR), UART_IIR_MODEM);
	assert_true(wire->level);
	assert_int_equal(in(wire, UART_MSR), UART_MSR_DCTS | UART_MSR_DDSR | UART_MSR_DDCD);
	assert_false(wire->level);
	assert_int_equal(in(wire, UART_IIR_FCR), UART_IIR_NONE);
	free(wire);
}

static void test_modem(void **state)
{
	struct wire *wire = wire_new(false);

	/* The ring indicator tells of its end, not of its start. */
	uart16550_modem(&wire->uart, UART_MSR_CTS | UART_MSR_DSR | UART_MSR_DCD | UART_MSR_RI);
	assert_int_equal(in(wire, UART_MSR), 0xf0);
	uart16550_modem(&wire->uart, UART_MSR_CTS | UART_MSR_DSR | UART_MSR_DCD);
	assert_int_equal(in(wire, UART_MSR), 0xb0 | UART_MSR_TERI);
	assert_int_equal(in(wire, UART_MSR), 0xb0);
	/* Loopback wires the outputs to the inputs, one by one. */
	out(wire, UART_MCR, UART_MCR_LOOP);
	assert_int_equal(in(wire, UART_MSR) & 0xf0, 0);
	out(wire, UART_MCR, UART_MCR_LOOP | UART_MCR_DTR);
	assert_int_equal(in(wire, UART_MSR), UART_MSR_DSR | UART_MSR_DDSR);
	out(wire, UART_MCR, UART_MCR_LOOP | UART_MCR_RTS);
	assert_int_equal(in(wire, UART_MSR), UART_MSR_CTS | UART_MSR_DCTS | UART_MSR_DDSR);
	out(wire, UART_MCR, UART_MCR_LOOP | UART_MCR_OUT1);
	assert_int_equal(in(wire, UART_MSR), UART_MSR_RI | UART_MSR_DCTS);
	out(wire, UART_MCR, UART_MCR_LOOP | UART_MCR_OUT2);
	assert_int_equal(in(wire, UART_MSR), UART_MSR_DCD | UART_MSR_TERI | UART_MSR_DDCD);
	out(wire, UART_MCR, 0);
	assert_int_equal(in(wire, UART_MSR) & 0xf0, 0xb0);
	free(wire);
}

static void test_loopback_data(void **state)
{
	struct wire *wire = wire_new(false);

	out(wire, UART_LCR, 0x03);
	out(wire, UART_IIR_FCR, UART_FCR_ENABLE);
	out(wire, UART_MCR, UART_MCR_LOOP);
	/* Off the wire. */
	assert_int_equal(uart16550_room(&wire->uart), 0);
	receive(wire, "x");
	assert_int_equal(in(wire, UART_LSR), 0x60);
	for (unsigned i = 0; i < UART_FIFO; i++)
		out(wire, UART_DATA, 0xf0 + i);
	assert_int_equal(wire->nr_sent, 0);
	assert_int_equal(in(wire, UART_LSR), 0x61);
	out(wire, UART_DATA, 0);
	assert_int_equal(in(wire, UART_LSR), 0x63);
	for (unsigned i = 0; i < UART_FIFO; i++)
		assert_int_equal(in(wire, UART_DATA), 0xf0 + i);
	/* Characters are as long as LCR says; a break is a null with BI. */
	out(wire, UART_LCR, 0x00);
	out(wire, UART_DATA, 0xff);
	assert_int_equal(in(wire, UART_DATA), 0x1f);
	out(wire, UART_LCR, 0x43);
	assert_int_equal(in(wire, UART_LSR), 0xf1);
	assert_int_equal(in(wire, UART_DATA), 0);
	out(wire, UART_LCR, 0x43);
	assert_int_equal(in(wire, UART_LSR), 0x60);
	/* While the line is held, nobody hears what is sent. */
	assert_int_equal(wire->lines, 0);
	out(wire, UART_MCR, 0);
	assert_true(wire->low);
	out(wire, UART_DATA, 'x');
	assert_int_equal(wire->nr_sent, 0);
	assert_int_equal(in(wire, UART_LSR), 0x60);
	out(wire, UART_MCR, UART_MCR_LOOP);
	assert_false(wire->low);
	out(wire, UART_MCR, 0);
	out(wire, UART_LCR, 0x03);
	assert_int_equal(wire->lines, 4);
	assert_false(wire->low);
	out(wire, UART_DATA, 'y');
	assert_int_equal(wire->nr_sent, 1);
	free(wire);
}

static void test_out2(void **state)
{
	struct wire *wire = wire_new(true);

	out(wire, UART_IER, UART_IER_TX);
	assert_false(wire->level);
	out(wire, UART_MCR, UART_MCR_OUT2);
	assert_true(wire->level);
	out(wire, UART_MCR, 0);
	assert_false(wire->level);
	assert_int_equal(in(wire, UART_IIR_FCR), UART_IIR_TX);
	free(wire);
}

static void test_fcr(void **state)
{
	struct wire *wire = wire_new(false);

	/* Without the enable bit, nothing else is programmed. */
	out(wire, UART_IIR_FCR, 0xc8);
	assert_int_equal(in(wire, UART_IIR_FCR), UART_IIR_NONE);
	out(wire, UART_IIR_FCR, UART_FCR_ENABLE);
	receive(wire, "abc");
	/* Turning FIFOs off and on empties them. */
	out(wire, UART_IIR_FCR, 0);
	assert_int_equal(in(wire, UART_LSR), 0x60);
	assert_int_equal(in(wire, UART_IIR_FCR), UART_IIR_NONE);
	receive(wire, "d");
	out(wire, UART_IIR_FCR, UART_FCR_ENABLE);
	assert_int_equal(in(wire, UART_LSR), 0x60);
	receive(wire, "ef");
	/* The same again does not. */
	out(wire, UART_IIR_FCR, UART_FCR_ENABLE | 0x40);
	assert_int_equal(in(wire, UART_DATA), 'e');
	free(wire);
}

/* Any state that a file may hold, and any accesses after it, keep the chip within its bounds (ASan watches). */
static void test_hostile(void **state)
{
	struct wire *wire = wire_new(false);
	uint32_t seed = 1;

	for (unsigned round = 0; round < 2000; round++) {
		uint8_t *bytes = (uint8_t *)&wire->uart.state;

		if (round % 10 == 0) {
			for (size_t i = 0; i < sizeof(wire->uart.state); i++)
				bytes[i] = (seed = seed * 1664525 + 1013904223) >> 24;
			uart16550_sync(&wire->uart);
		}
		for (unsigned i = 0; i < 50; i++) {
			seed = seed * 1664525 + 1013904223;
			wire->room = seed >> 30 ? 1 : 0;
			wire->nr_sent = 0;
			if (seed & 0x100)
				out(wire, seed >> 16 & 7, seed >> 20);
			else
				in(wire, seed >> 16 & 7);
			if (seed & 0x200)
				uart16550_receive(&wire->uart, seed >> 8, seed >> 4);
			assert_in_range(uart16550_room(&wire->uart), 0, UART_FIFO);
		}
	}
	free(wire);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_power_on),
		cmocka_unit_test(test_registers),
		cmocka_unit_test(test_linux_autoconfig),
		cmocka_unit_test(test_linux_thre),
		cmocka_unit_test(test_transmit),
		cmocka_unit_test(test_transmit_edges),
		cmocka_unit_test(test_slow_reader),
		cmocka_unit_test(test_receive_16450),
		cmocka_unit_test(test_trigger_levels),
		cmocka_unit_test(test_fifo_overrun),
		cmocka_unit_test(test_receive_timeout),
		cmocka_unit_test(test_timeout_length),
		cmocka_unit_test(test_errors_travel),
		cmocka_unit_test(test_priorities),
		cmocka_unit_test(test_modem),
		cmocka_unit_test(test_loopback_data),
		cmocka_unit_test(test_out2),
		cmocka_unit_test(test_fcr),
		cmocka_unit_test(test_hostile),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
