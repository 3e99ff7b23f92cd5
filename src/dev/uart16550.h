/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * uart16550.h - the 16550A chip: registers in, registers out, an interrupt line and a byte stream.
 *
 * It knows no address, lock, thread or file: all that it needs is in its ops, and whoever calls in serialises
 * the calls. Register semantics are those of National Semiconductor's PC16550D data sheet. Sending a byte takes
 * no time unless the wire says that it has no room; then bytes wait in the transmit FIFO and the line status
 * says so. Receiving takes no time either, but the receive timeout is real.
 */
#ifndef TRAPLINE_DEV_UART16550_H
#define TRAPLINE_DEV_UART16550_H

#include <stdbool.h>
#include <stdint.h>

#include "core/field.h"

#define UART_FIFO 16 /* bytes, each way */

/* Registers, by offset; the first two are the divisor while UART_LCR_DLAB is set. */
enum { UART_DATA, UART_IER, UART_IIR_FCR, UART_LCR, UART_MCR, UART_LSR, UART_MSR, UART_SCR, NR_UART_REGS };

enum {
	UART_IER_RX = 0x01,    /* received data */
	UART_IER_TX = 0x02,    /* transmitter holding register empty */
	UART_IER_LINE = 0x04,  /* receiver line status */
	UART_IER_MODEM = 0x08, /* modem status */

	UART_IIR_NONE = 0x01, /* nothing pending */
	UART_IIR_MODEM = 0x00,
	UART_IIR_TX = 0x02,
	UART_IIR_RX = 0x04,
	UART_IIR_LINE = 0x06,
	UART_IIR_TIMEOUT = 0x0c,
	UART_IIR_FIFO = 0xc0, /* FIFOs are on */

	UART_FCR_ENABLE = 0x01,
	UART_FCR_CLEAR_RX = 0x02,
	UART_FCR_CLEAR_TX = 0x04,
	UART_FCR_DMA = 0x08,
	UART_FCR_TRIGGER = 0xc0,

	UART_LCR_BREAK = 0x40,
	UART_LCR_DLAB = 0x80,

	UART_MCR_DTR = 0x01,
	UART_MCR_RTS = 0x02,
	UART_MCR_OUT1 = 0x04,
	UART_MCR_OUT2 = 0x08,
	UART_MCR_LOOP = 0x10,

	UART_LSR_DR = 0x01, /* data ready */
	UART_LSR_OE = 0x02, /* overrun */
	UART_LSR_PE = 0x04, /* parity */
	UART_LSR_FE = 0x08, /* framing */
	UART_LSR_BI = 0x10, /* break */
	UART_LSR_THRE = 0x20,
	UART_LSR_TEMT = 0x40,
	UART_LSR_FIFO_ERROR = 0x80,

	UART_MSR_DCTS = 0x01,
	UART_MSR_DDSR = 0x02,
	UART_MSR_TERI = 0x04,
	UART_MSR_DDCD = 0x08,
	UART_MSR_CTS = 0x10,
	UART_MSR_DSR = 0x20,
	UART_MSR_RI = 0x40,
	UART_MSR_DCD = 0x80,
};

/* All that a guest can see. */
struct uart16550_state {
	uint8_t ier, fcr, lcr, mcr, msr, scr;
	uint8_t lsr; /* UART_LSR_OE alone; the rest follows from the FIFOs */
	uint8_t dll, dlm;
	uint8_t lines;      /* UART_MSR_CTS.._DCD of the pins, which loopback hides */
	uint8_t tx_pending; /* the transmitter-empty interrupt is due and was not read yet */
	uint8_t tx_run;     /* writes of data in a row; see uart_send() */
	uint8_t rx_timeout; /* the receive timeout has come and nothing was read since */
	uint8_t rx_head, rx_len, tx_head, tx_len;
	uint8_t rx[UART_FIFO], rx_error[UART_FIFO], tx[UART_FIFO];
	uint64_t rx_deadline; /* clock ns of the receive timeout; CLOCK_NEVER: none runs */
};

extern const struct field uart16550_fields[];

/* What the chip is soldered to. All are called with the caller's serialisation held. */
struct uart16550_ops {
	void (*irq)(void *arg, bool level);         /* the INTR pin; only called when it changes */
	bool (*room)(void *arg);                    /* the wire takes one more byte now */
	void (*send)(void *arg, uint8_t byte);      /* only after room() said yes */
	uint64_t (*now)(void *arg);                 /* clock ns */
	void (*wake)(void *arg, uint64_t deadline); /* call uart16550_tick() then; replaces the last one */
	void (*line)(void *arg, bool low); /* the wire is low, for a break, or not; only called when it changes */
};

struct uart16550 {
	struct uart16550_state state;
	const struct uart16550_ops *ops;
	void *arg;
	uint32_t clock_hz;   /* of the baud generator; 1843200 on a PC */
	bool out2_gates_irq; /* the board lets INTR through only while MCR's OUT2 is set, as a PC does */
	bool low;            /* the wire's level as last told to ops->line */
	bool intr;           /* the pin's level as last told to ops->irq */
	uint64_t wake_at;    /* the last time asked for by ops->wake, until it comes */
	uint64_t tx_lost;    /* bytes written to a full transmitter */
	uint64_t rx_lost;    /* bytes received by a full receiver */
};

/* `ops` and `arg` are the caller's and outlive the chip. State is power-on state afterwards. */
void uart16550_init(
	struct uart16550 *uart, const struct uart16550_ops *ops, void *arg, uint32_t clock_hz, bool out2_gates_irq);
/* After the state was put to its reset or saved values by the field table: drives the pin and the timer by it. */
void uart16550_sync(struct uart16550 *uart);

/* reg: 0 to 7; others read as all ones, and writes to them vanish. */
uint8_t uart16550_read(struct uart16550 *uart, unsigned reg);
void uart16550_write(struct uart16550 *uart, unsigned reg, uint8_t value);

/* How many bytes the receiver takes now without an overrun; 0 in loopback, which takes it off the wire. */
unsigned uart16550_room(const struct uart16550 *uart);
/* A byte came in by the wire, with UART_LSR_PE, UART_LSR_FE, UART_LSR_BI of its own in `error`. Lost in loopback. */
void uart16550_receive(struct uart16550 *uart, uint8_t byte, uint8_t error);
/* The wire has room again: sends what waits. */
void uart16550_writable(struct uart16550 *uart);
/* The modem's lines: OR of UART_MSR_CTS, UART_MSR_DSR, UART_MSR_RI, UART_MSR_DCD that are active. */
void uart16550_modem(struct uart16550 *uart, uint8_t lines);
/* The time asked for by ops->wake has come; harmless at any other time. */
void uart16550_tick(struct uart16550 *uart);

#endif
