/* SPDX-License-Identifier: BSD-2-Clause */
/* uart16550.c - the 16550A chip; see uart16550.h. "Data sheet" is National Semiconductor's PC16550D. */
#include "dev/uart16550.h"

#include "core/clock.h"

#define STATE struct uart16550_state

/* The modem lines start active: what is at the other end of a virtual wire is always there. */
#define LINES_READY (UART_MSR_CTS | UART_MSR_DSR | UART_MSR_DCD)

const struct field uart16550_fields[] = {
	FIELD(STATE, ier),
	FIELD(STATE, fcr),
	FIELD(STATE, lcr),
	FIELD(STATE, mcr),
	FIELD(STATE, msr, .reset = LINES_READY),
	FIELD(STATE, scr),
	FIELD(STATE, lsr),
	/* 115200 baud: a guest that asks the chip for its rate before it set one must not divide by 0. */
	FIELD(STATE, dll, .reset = 1),
	FIELD(STATE, dlm),
	FIELD(STATE, lines, .reset = LINES_READY),
	FIELD(STATE, tx_pending),
	FIELD(STATE, tx_run),
	FIELD(STATE, rx_timeout),
	FIELD(STATE, rx_head),
	FIELD(STATE, rx_len),
	FIELD(STATE, tx_head),
	FIELD(STATE, tx_len),
	FIELD_ARRAY(STATE, rx),
	FIELD_ARRAY(STATE, rx_error),
	FIELD_ARRAY(STATE, tx),
	FIELD(STATE, rx_deadline, .reset = CLOCK_NEVER),
	FIELD_END,
};

static bool uart_fifo_on(const STATE *s)
{
	return s->fcr & UART_FCR_ENABLE;
}

static unsigned uart_depth(const STATE *s)
{
	return uart_fifo_on(s) ? UART_FIFO : 1;
}

static unsigned uart_trigger(const STATE *s)
{
	static const uint8_t levels[4] = { 1, 4, 8, 14 };

	return uart_fifo_on(s) ? levels[s->fcr >> 6] : 1;
}

/* Errors of the byte that is next to be read; they belong to it and show when it comes to the top. */
static uint8_t uart_top_error(const STATE *s)
{
	return s->rx_len ? s->rx_error[s->rx_head % UART_FIFO] : 0;
}

static uint8_t uart_lsr(const STATE *s)
{
	uint8_t lsr = s->lsr | uart_top_error(s);

	if (s->rx_len)
		lsr |= UART_LSR_DR;
	if (!s->tx_len)
		lsr |= UART_LSR_THRE | UART_LSR_TEMT;
	for (unsigned i = 0; uart_fifo_on(s) && i < s->rx_len; i++)
		if (s->rx_error[(s->rx_head + i) % UART_FIFO])
			lsr |= UART_LSR_FIFO_ERROR;
	return lsr;
}

/* The highest of what is enabled and pending, in the data sheet's order of priority. */
static uint8_t uart_cause(const STATE *s)
{
	if (s->ier & UART_IER_LINE &&
		(s->lsr | uart_top_error(s)) & (UART_LSR_OE | UART_LSR_PE | UART_LSR_FE | UART_LSR_BI))
		return UART_IIR_LINE;
	if (s->ier & UART_IER_RX && s->rx_len >= uart_trigger(s))
		return UART_IIR_RX;
	if (s->ier & UART_IER_RX && s->rx_timeout)
		return UART_IIR_TIMEOUT;
	if (s->ier & UART_IER_TX && s->tx_pending)
		return UART_IIR_TX;
	if (s->ier & UART_IER_MODEM && s->msr & (UART_MSR_DCTS | UART_MSR_DDSR | UART_MSR_TERI | UART_MSR_DDCD))
		return UART_IIR_MODEM;
	return UART_IIR_NONE;
}

static void uart_pin(struct uart16550 *uart)
{
	const STATE *s = &uart->state;
	bool level = uart_cause(s) != UART_IIR_NONE && (!uart->out2_gates_irq || s->mcr & UART_MCR_OUT2);

	if (level == uart->intr)
		return;
	uart->intr = level;
	uart->ops->irq(uart->arg, level);
}

/* Four character times, in ns: start bit, 5 to 8 data bits, parity, 1 or 2 stop bits; 16 clocks a bit. */
static uint64_t uart_timeout(const struct uart16550 *uart)
{
	const STATE *s = &uart->state;
	uint64_t divisor = s->dll | s->dlm << 8;
	unsigned bits = 1 + 5 + (s->lcr & 3) + !!(s->lcr & 8) + 1 + !!(s->lcr & 4);

	/* A divisor of 0 stops a real chip's clock; a timeout that never comes helps nobody. */
	return 4 * bits * 16 * (divisor ? divisor : 1) * NSEC_PER_SEC / uart->clock_hz;
}

/* Bytes come and go far more often than they time out, so a wake-up that comes too early is left to come. */
static void uart_set_deadline(struct uart16550 *uart, uint64_t deadline)
{
	uart->state.rx_deadline = deadline;
	if (deadline >= uart->wake_at)
		return;
	uart->wake_at = deadline;
	uart->ops->wake(uart->arg, deadline);
}

/*
 * The timeout counts from the last byte that came or was read, while bytes are in the FIFO. Once it has come it
 * stays until a byte is read. With the trigger reached the received-data interrupt stands in its place.
 */
static void uart_restart_timeout(struct uart16550 *uart)
{
	const STATE *s = &uart->state;

	if (!uart_fifo_on(s) || !s->rx_len || s->rx_timeout)
		uart_set_deadline(uart, CLOCK_NEVER);
	else
		uart_set_deadline(uart, uart->ops->now(uart->arg) + uart_timeout(uart));
}

static void uart_push(struct uart16550 *uart, uint8_t byte, uint8_t error)
{
	STATE *s = &uart->state;
	unsigned at;

	if (s->rx_len >= uart_depth(s)) {
		uart->rx_lost++;
		s->lsr |= UART_LSR_OE;
		/* The FIFO keeps what it has; without it the new byte takes the place of the old one. */
		if (uart_fifo_on(s))
			return;
		s->rx_len = 0;
	}
	at = (s->rx_head + s->rx_len) % UART_FIFO;
	s->rx[at] = byte;
	s->rx_error[at] = error & (UART_LSR_PE | UART_LSR_FE | UART_LSR_BI);
	s->rx_len++;
	uart_restart_timeout(uart);
}

/* Moves bytes from the transmitter to where they go, as far as there is room. */
static void uart_drain(struct uart16550 *uart)
{
	STATE *s = &uart->state;
	bool had = s->tx_len;

	while (s->tx_len) {
		uint8_t byte = s->tx[s->tx_head % UART_FIFO];

		if (s->mcr & UART_MCR_LOOP)
			uart_push(uart, byte & (0xff >> (3 - (s->lcr & 3))), 0);
		else if (s->lcr & UART_LCR_BREAK)
			; /* the line is held low: nobody hears it */
		else if (!uart->ops->room(uart->arg))
			return;
		else
			uart->ops->send(uart->arg, byte);
		s->tx_head = (s->tx_head + 1) % UART_FIFO;
		s->tx_len--;
	}
	if (had)
		s->tx_pending = 1;
}

/*
 * Writing data withdraws the transmitter-empty interrupt, and as the byte is gone at once, brings it back: a
 * new edge, without which an edge-triggered interrupt that was taken, and answered by more data rather than by
 * a read of IIR, would be the last. A real chip gives that edge once for a FIFO's worth, and edges cost
 * two system calls, so within a run of data writes with nothing between them only each 16th makes one.
 */
static void uart_send(struct uart16550 *uart, uint8_t byte)
{
	STATE *s = &uart->state;

	if (s->tx_run % uart_depth(s) == 0) {
		s->tx_pending = 0;
		uart_pin(uart);
	}
	s->tx_run = (s->tx_run + 1) % UART_FIFO;
	if (s->tx_len >= uart_depth(s)) {
		uart->tx_lost++;
	} else {
		s->tx[(s->tx_head + s->tx_len) % UART_FIFO] = byte;
		s->tx_len++;
		s->tx_pending = 0;
	}
	uart_drain(uart);
}

static void uart_clear_rx(struct uart16550 *uart)
{
	uart->state.rx_head = uart->state.rx_len = 0;
	uart->state.rx_timeout = 0;
	uart_restart_timeout(uart);
}

static void uart_write_fcr(struct uart16550 *uart, uint8_t value)
{
	STATE *s = &uart->state;
	bool toggled = (value ^ s->fcr) & UART_FCR_ENABLE;
	/* The other bits are only programmed while the enable bit is written as 1. */
	uint8_t clear = value & UART_FCR_ENABLE ? value : 0;

	s->fcr = value & UART_FCR_ENABLE ? value & (UART_FCR_ENABLE | UART_FCR_DMA | UART_FCR_TRIGGER) : 0;
	if (toggled || clear & UART_FCR_CLEAR_RX)
		uart_clear_rx(uart);
	if ((toggled || clear & UART_FCR_CLEAR_TX) && s->tx_len) {
		s->tx_head = s->tx_len = 0;
		s->tx_pending = 1;
	}
	uart_restart_timeout(uart);
}

/* The modem inputs as the status register shows them: in loopback they are the outputs (data sheet, 8.6). */
static uint8_t uart_inputs(const STATE *s)
{
	if (!(s->mcr & UART_MCR_LOOP))
		return s->lines;
	return (s->mcr & UART_MCR_RTS ? UART_MSR_CTS : 0) | (s->mcr & UART_MCR_DTR ? UART_MSR_DSR : 0) |
	       (s->mcr & UART_MCR_OUT1 ? UART_MSR_RI : 0) | (s->mcr & UART_MCR_OUT2 ? UART_MSR_DCD : 0);
}

static void uart_modem_changed(struct uart16550 *uart)
{
	STATE *s = &uart->state;
	uint8_t now = uart_inputs(s), was = s->msr & 0xf0, changed = now ^ was;

	/* The ring indicator tells of its end only. */
	if (now & UART_MSR_RI)
		changed &= ~UART_MSR_RI;
	s->msr = now | (s->msr & 0x0f) | changed >> 4;
}

/* Loopback takes the transmitter off the wire. */
static void uart_line(struct uart16550 *uart)
{
	const STATE *s = &uart->state;
	bool low = s->lcr & UART_LCR_BREAK && !(s->mcr & UART_MCR_LOOP);

	if (low == uart->low)
		return;
	uart->low = low;
	uart->ops->line(uart->arg, low);
}

static void uart_write_lcr(struct uart16550 *uart, uint8_t value)
{
	STATE *s = &uart->state;
	bool breaks = value & ~s->lcr & UART_LCR_BREAK;

	s->lcr = value;
	/* A break is one null byte to a receiver, however long it lasts. */
	if (breaks && s->mcr & UART_MCR_LOOP)
		uart_push(uart, 0, UART_LSR_BI);
	uart_line(uart);
	uart_drain(uart);
}

static uint8_t uart_read_data(struct uart16550 *uart)
{
	STATE *s = &uart->state;
	uint8_t byte = s->rx[s->rx_head % UART_FIFO];

	/* An empty receiver shows its last byte again. */
	if (!s->rx_len)
		return s->rx[(s->rx_head + UART_FIFO - 1) % UART_FIFO];
	s->rx_error[s->rx_head % UART_FIFO] = 0;
	s->rx_head = (s->rx_head + 1) % UART_FIFO;
	s->rx_len--;
	s->rx_timeout = 0;
	uart_restart_timeout(uart);
	return byte;
}

static uint8_t uart_read_lsr(STATE *s)
{
	uint8_t lsr = uart_lsr(s);

	s->lsr = 0;
	if (s->rx_len)
		s->rx_error[s->rx_head % UART_FIFO] = 0;
	return lsr;
}

static uint8_t uart_read_iir(STATE *s)
{
	uint8_t cause = uart_cause(s);

	if (cause == UART_IIR_TX)
		s->tx_pending = 0;
	return cause | (uart_fifo_on(s) ? UART_IIR_FIFO : 0);
}

uint8_t uart16550_read(struct uart16550 *uart, unsigned reg)
{
	STATE *s = &uart->state;
	uint8_t value = 0xff;

	s->tx_run = 0;
	switch (reg) {
	case UART_DATA:
		value = s->lcr & UART_LCR_DLAB ? s->dll : uart_read_data(uart);
		break;
	case UART_IER:
		value = s->lcr & UART_LCR_DLAB ? s->dlm : s->ier;
		break;
	case UART_IIR_FCR:
		value = uart_read_iir(s);
		break;
	case UART_LCR:
		value = s->lcr;
		break;
	case UART_MCR:
		value = s->mcr;
		break;
	case UART_LSR:
		value = uart_read_lsr(s);
		break;
	case UART_MSR:
		value = s->msr;
		s->msr &= 0xf0;
		break;
	case UART_SCR:
		value = s->scr;
		break;
	}
	uart_pin(uart);
	return value;
}

static void uart_write_ier(STATE *s, uint8_t value)
{
	/* Enabling the interrupt while the transmitter is empty raises it. */
	if (value & ~s->ier & UART_IER_TX && !s->tx_len)
		s->tx_pending = 1;
	s->ier = value & 0x0f;
}

void uart16550_write(struct uart16550 *uart, unsigned reg, uint8_t value)
{
	STATE *s = &uart->state;

	if (reg != UART_DATA)
		s->tx_run = 0;
	switch (reg) {
	case UART_DATA:
		if (s->lcr & UART_LCR_DLAB)
			s->dll = value;
		else
			uart_send(uart, value);
		break;
	case UART_IER:
		if (s->lcr & UART_LCR_DLAB)
			s->dlm = value;
		else
			uart_write_ier(s, value);
		break;
	case UART_IIR_FCR:
		uart_write_fcr(uart, value);
		break;
	case UART_LCR:
		uart_write_lcr(uart, value);
		break;
	case UART_MCR:
		s->mcr = value & 0x1f;
		uart_modem_changed(uart);
		uart_line(uart);
		uart_drain(uart);
		break;
	case UART_SCR:
		s->scr = value;
		break;
		/* LSR and MSR are for reading; what the factory does to them by writing is not offered. */
	}
	uart_pin(uart);
}

unsigned uart16550_room(const struct uart16550 *uart)
{
	const STATE *s = &uart->state;

	return s->mcr & UART_MCR_LOOP || s->rx_len >= uart_depth(s) ? 0 : uart_depth(s) - s->rx_len;
}

void uart16550_receive(struct uart16550 *uart, uint8_t byte, uint8_t error)
{
	if (uart->state.mcr & UART_MCR_LOOP)
		return;
	uart_push(uart, byte, error);
	uart_pin(uart);
}

void uart16550_writable(struct uart16550 *uart)
{
	uart_drain(uart);
	uart_pin(uart);
}

void uart16550_modem(struct uart16550 *uart, uint8_t lines)
{
	uart->state.lines = lines & 0xf0;
	uart_modem_changed(uart);
	uart_pin(uart);
}

void uart16550_tick(struct uart16550 *uart)
{
	STATE *s = &uart->state;
	uint64_t now = uart->ops->now(uart->arg);

	if (now >= uart->wake_at)
		uart->wake_at = CLOCK_NEVER;
	if (s->rx_deadline == CLOCK_NEVER)
		return;
	if (now < s->rx_deadline) {
		uart_set_deadline(uart, s->rx_deadline);
		return;
	}
	s->rx_deadline = CLOCK_NEVER;
	s->rx_timeout = 1;
	uart_pin(uart);
}

void uart16550_init(
	struct uart16550 *uart, const struct uart16550_ops *ops, void *arg, uint32_t clock_hz, bool out2_gates_irq)
{
	*uart = (struct uart16550){
		.ops = ops,
		.arg = arg,
		.clock_hz = clock_hz,
		.out2_gates_irq = out2_gates_irq,
		.wake_at = CLOCK_NEVER,
	};
	field_init(uart16550_fields, &uart->state);
}

void uart16550_sync(struct uart16550 *uart)
{
	STATE *s = &uart->state;

	/* A saved state is only as good as the file it came from. */
	s->rx_head %= UART_FIFO;
	s->tx_head %= UART_FIFO;
	if (s->rx_len > uart_depth(s))
		s->rx_len = uart_depth(s);
	if (s->tx_len > uart_depth(s))
		s->tx_len = uart_depth(s);
	uart_set_deadline(uart, s->rx_deadline);
	uart_line(uart);
	uart_drain(uart);
	uart->intr = false;
	uart->ops->irq(uart->arg, false);
	uart_pin(uart);
}
