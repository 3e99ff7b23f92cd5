/* SPDX-License-Identifier: BSD-2-Clause */
/* test_core_vm.c - machines and their devices, two of them in one process; threads. */
#include "unit.h"

#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/thread.h"
#include "core/vm.h"

/* A device with a register that a reset clears, one that survives it, and a timer that raises its line. */
struct toy_state {
	uint32_t reg;
	uint32_t kept;
};

struct toy {
	struct device dev;
	struct region regs, extra;
	struct irq irq;
	struct timer timer;
	struct toy_state state;
	unsigned resets, stops;
	unsigned *destroyed;  /* atomic */
	sem_t *inside, *gate; /* where set, a read says that it is inside and waits, as a bad handler might */
};

struct toy_config {
	unsigned *destroyed;
};

static void toy_trap(void *arg, struct trap *trap)
{
	struct toy *toy = arg;
	uint32_t *reg = trap->offset ? &toy->state.kept : &toy->state.reg;

	if (!trap->write) {
		if (toy->gate) {
			sem_post(toy->inside);
			sem_wait(toy->gate);
		}
		trap->value = *reg;
		return;
	}
	*reg = (uint32_t)trap->value;
	if (trap->offset)
		return;
	if (*reg == 0xdead)
		vm_reset(toy->dev.vm);
	else if (*reg == 0x0ff)
		vm_stop(toy->dev.vm, REASON_POWER_OFF, "%s wrote %#x", toy->dev.name, *reg);
	else
		timer_arm(&toy->timer, clock_now(&toy->dev.vm->clock) + *reg);
}

static void toy_timer(void *arg)
{
	struct toy *toy = arg;

	irq_set(&toy->irq, true);
}

static void toy_reset(struct device *dev)
{
	struct toy *toy = (struct toy *)dev;

	toy->resets++;
	timer_cancel(&toy->timer);
}

static void toy_stop(struct device *dev)
{
	struct toy *toy = (struct toy *)dev;

	toy->stops++;
}

static void toy_destroy(struct device *dev)
{
	struct toy *toy = (struct toy *)dev;

	assert_false(toy->regs.live);
	assert_int_equal(toy->stops, 1);
	timer_cancel(&toy->timer);
	__atomic_fetch_add(toy->destroyed, 1, __ATOMIC_SEQ_CST);
	device_fini(dev);
	assert_null(toy->irq.router);
	device_fini(dev);
	free(toy);
}

static const struct field toy_fields[] = {
	FIELD(struct toy_state, reg, .reset = 0x12345678),
	FIELD(struct toy_state, kept, .reset = 0x5a5a5a5a, .keep = true),
	FIELD_END,
};

static int toy_create(struct vm *vm, const char *name, const void *config, struct device **out, struct error *err);

static const struct device_type toy_type = {
	.name = "toy",
	.state = toy_fields,
	.state_offset = offsetof(struct toy, state),
	.create = toy_create,
	.stop = toy_stop,
	.reset = toy_reset,
	.destroy = toy_destroy,
};

static int toy_create(struct vm *vm, const char *name, const void *config, struct device **out, struct error *err)
{
	const struct toy_config *conf = config;
	struct toy *toy = calloc(1, sizeof(*toy));

	if (!toy)
		return error_set(err, -ENOMEM, "%s: no memory", name);
	device_init(&toy->dev, &toy_type, vm, name);
	device_region(&toy->dev, &toy->regs, "regs", 8, WIDTH_4, toy_trap);
	device_region(&toy->dev, &toy->extra, "extra", 8, WIDTH_4, toy_trap);
	device_irq(&toy->dev, &toy->irq, "toy", IRQ_LEVEL);
	timer_init(&toy->timer, &vm->clock, toy_timer, toy, &toy->dev.lock);
	toy->destroyed = conf->destroyed;
	*out = &toy->dev;
	return 0;
}

static struct device *toy_new(struct vm *vm, const char *name, unsigned *destroyed, uint64_t base, unsigned line)
{
	struct toy_config config = { .destroyed = destroyed };
	struct device *dev;
	struct error err;

	assert_int_equal(toy_type.create(vm, name, &config, &dev, &err), 0);
	dev->regions[0]->space = SPACE_PIO;
	dev->regions[0]->base = base;
	dev->regions[1]->space = SPACE_MMIO;
	dev->regions[1]->base = 0x10000000 + base;
	assert_int_equal(irq_connect(&vm->irqs, dev->irqs[0], line), 0);
	return dev;
}

static uint32_t peek(struct vm *vm, struct initiator *from, enum space space, uint64_t addr)
{
	uint32_t value = 0x55555555;

	bus_access(vm->bus, from, space, addr, &value, 4, 1, false);
	return value;
}

static void poke(struct vm *vm, struct initiator *from, enum space space, uint64_t addr, uint32_t value)
{
	bus_access(vm->bus, from, space, addr, &value, 4, 1, true);
}

static void test_two_machines(void **state)
{
	unsigned destroyed[2] = { 0 };
	struct initiator from[2] = { { .name = "a" }, { .name = "b" } };
	struct device *dev[2];
	struct vm vm[2];
	struct error err;

	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(vm_init(&vm[i], true, &err), 0);
		bus_attach(vm[i].bus, &from[i]);
		dev[i] = toy_new(&vm[i], "toy0", &destroyed[i], 0x100, 9);
		assert_int_equal(vm_add_devices(&vm[i], &dev[i], 1, &err), 0);
		device_power_on(dev[i]);
	}
	assert_int_equal(peek(&vm[0], &from[0], SPACE_PIO, 0x100), 0x12345678);
	poke(&vm[0], &from[0], SPACE_PIO, 0x100, 1000);
	poke(&vm[1], &from[1], SPACE_MMIO, 0x10000104, 77);
	assert_int_equal(peek(&vm[0], &from[0], SPACE_MMIO, 0x10000100), 1000);
	assert_int_equal(peek(&vm[1], &from[1], SPACE_PIO, 0x100), 0x12345678);
	assert_int_equal(peek(&vm[1], &from[1], SPACE_PIO, 0x104), 77);
	/* Time, lines and requests are each machine's own. */
	clock_step(&vm[1].clock, 5000);
	assert_int_equal(vm[1].irqs.lines[9].asserted, 0);
	clock_step(&vm[0].clock, 999);
	assert_int_equal(vm[0].irqs.lines[9].asserted, 0);
	clock_step(&vm[0].clock, 1);
	assert_int_equal(vm[0].irqs.lines[9].asserted, 1);
	assert_int_equal(vm[1].irqs.lines[9].asserted, 0);
	poke(&vm[0], &from[0], SPACE_PIO, 0x100, 0xdead);
	poke(&vm[1], &from[1], SPACE_PIO, 0x100, 0x0ff);
	assert_int_equal(run_take_request(&vm[0].run), REASON_RESET);
	assert_int_equal(run_take_request(&vm[1].run), REASON_POWER_OFF);
	assert_string_equal(vm[1].run.why, "toy0 wrote 0xff");
	vm_stop(&vm[0], REASON_QUIT, NULL);
	assert_int_equal(run_take_request(&vm[0].run), REASON_QUIT);

	bus_detach(&from[0]);
	vm_fini(&vm[0]);
	assert_int_equal(destroyed[0], 1);
	assert_int_equal(destroyed[1], 0);
	assert_int_equal(peek(&vm[1], &from[1], SPACE_PIO, 0x104), 77);
	bus_detach(&from[1]);
	vm_fini(&vm[1]);
	assert_int_equal(destroyed[1], 1);
	vm_fini(&vm[1]); /* all zeros now */
}

static void test_reset(void **state)
{
	unsigned destroyed = 0;
	struct device *dev;
	struct toy *toy;
	struct error err;
	struct vm vm;

	assert_int_equal(vm_init(&vm, true, &err), 0);
	dev = toy_new(&vm, "toy0", &destroyed, 0x100, 3);
	toy = (struct toy *)dev;
	assert_int_equal(vm_add_devices(&vm, &dev, 1, &err), 0);
	toy->state.kept = 1;
	device_power_on(dev);
	assert_int_equal(toy->state.reg, 0x12345678);
	assert_int_equal(toy->state.kept, 0x5a5a5a5a);
	toy->state = (struct toy_state){ 1, 2 };
	irq_set(&toy->irq, true);
	device_reset(dev);
	assert_int_equal(toy->state.reg, 0x12345678);
	assert_int_equal(toy->state.kept, 2);
	assert_int_equal(toy->resets, 2);
	assert_int_equal(vm.irqs.lines[3].asserted, 0);
	vm_fini(&vm);
	assert_int_equal(destroyed, 1);
}

static void test_conflicts(void **state)
{
	unsigned destroyed = 0;
	struct device *first, *batch[3];
	struct initiator from = { .name = "test" };
	struct error err;
	struct vm vm;

	assert_int_equal(vm_init(&vm, true, &err), 0);
	bus_attach(vm.bus, &from);
	first = toy_new(&vm, "serial0", &destroyed, 0x3f8, 4);
	assert_int_equal(vm_add_devices(&vm, &first, 1, &err), 0);
	device_power_on(first);

	/* The second of three is in the way: nothing of the three is there, and the message names both sides. */
	batch[0] = toy_new(&vm, "a", &destroyed, 0x100, 5);
	batch[1] = toy_new(&vm, "rtc", &destroyed, 0x3fc, 6);
	batch[2] = toy_new(&vm, "c", &destroyed, 0x200, 7);
	assert_int_equal(vm_add_devices(&vm, batch, 3, &err), -EEXIST);
	assert_string_equal(err.text, "serial0 (ports 0x3f8-0x3ff) is in the way of rtc (ports 0x3fc-0x403)");
	assert_null(vm_device(&vm, "a"));
	assert_int_equal(peek(&vm, &from, SPACE_PIO, 0x100), 0xffffffff);
	assert_int_equal(peek(&vm, &from, SPACE_PIO, 0x3f8), 0x12345678);

	/* Within the batch. */
	batch[1]->regions[0]->base = 0x400;
	batch[1]->regions[1]->base = 0x10000204;
	assert_int_equal(vm_add_devices(&vm, batch, 3, &err), -EEXIST);
	assert_non_null(strstr(err.text, "memory 0x10000204-0x1000020b"));
	assert_non_null(strstr(err.text, "memory 0x10000200-0x10000207"));

	/* Malformed: base not aligned to the widest width. */
	batch[1]->regions[1]->base = 0x10000402;
	assert_int_equal(vm_add_devices(&vm, batch, 3, &err), -EINVAL);
	assert_non_null(strstr(err.text, "rtc (memory 0x10000402-0x10000409)"));

	/* Names. */
	batch[1]->regions[1]->base = 0x10000400;
	strcpy(batch[2]->name, "a");
	assert_int_equal(vm_add_devices(&vm, batch, 3, &err), -EEXIST);
	assert_string_equal(err.text, "two devices are called 'a'");
	strcpy(batch[2]->name, "serial0");
	assert_int_equal(vm_add_devices(&vm, batch, 3, &err), -EEXIST);
	strcpy(batch[2]->name, "c");
	assert_int_equal(vm_add_devices(&vm, batch, 3, &err), 0);
	assert_ptr_equal(vm_device(&vm, "rtc"), batch[1]);
	assert_int_equal(vm_add_devices(&vm, NULL, 0, &err), 0);

	vm_remove_device(batch[1]);
	assert_int_equal(destroyed, 1);
	assert_null(vm_device(&vm, "rtc"));
	assert_int_equal(vm.irqs.lines[6].sources, 0);
	bus_detach(&from);
	vm_fini(&vm);
	assert_int_equal(destroyed, 4);
}

/* A device that a vCPU is inside of is destroyed only after the vCPU has come out. */
struct inside {
	struct vm vm;
	struct device *dev;
	sem_t inside, gate;
	uint32_t value;
};

static void *inside_vcpu(void *arg)
{
	struct initiator from = { .name = "vcpu0" };
	struct inside *in = arg;

	bus_attach(in->vm.bus, &from);
	in->value = peek(&in->vm, &from, SPACE_PIO, 0x100);
	bus_detach(&from);
	return NULL;
}

static void *inside_remover(void *arg)
{
	struct inside *in = arg;

	vm_remove_device(in->dev);
	return NULL;
}

static void test_removal_waits_for_handlers(void **state)
{
	pthread_t vcpu, remover;
	unsigned destroyed = 0;
	struct error err;
	struct inside in;
	struct toy *toy;

	assert_int_equal(vm_init(&in.vm, true, &err), 0);
	sem_init(&in.inside, 0, 0);
	sem_init(&in.gate, 0, 0);
	in.dev = toy_new(&in.vm, "toy0", &destroyed, 0x100, 3);
	assert_int_equal(vm_add_devices(&in.vm, &in.dev, 1, &err), 0);
	device_power_on(in.dev);
	toy = (struct toy *)in.dev;
	toy->inside = &in.inside;
	toy->gate = &in.gate;
	assert_int_equal(thread_start(&vcpu, "vcpu", inside_vcpu, &in), 0);
	sem_wait(&in.inside);
	assert_int_equal(thread_start(&remover, "remover", inside_remover, &in), 0);
	usleep(50000);
	assert_int_equal(__atomic_load_n(&destroyed, __ATOMIC_SEQ_CST), 0);
	sem_post(&in.gate);
	pthread_join(remover, NULL);
	pthread_join(vcpu, NULL);
	assert_int_equal(destroyed, 1);
	assert_int_equal(in.value, 0x12345678);
	sem_destroy(&in.inside);
	sem_destroy(&in.gate);
	vm_fini(&in.vm);
}

/* Many machines with live loops at once, each with its own timers, none disturbed by another. */
struct busy {
	struct vm vm;
	pthread_t thread;
	struct timer timer;
	unsigned ticks;
};

static void busy_tick(void *arg)
{
	struct busy *busy = arg;

	if (++busy->ticks == 50)
		loop_quit(&busy->vm.loop);
	else
		timer_arm(&busy->timer, clock_now(&busy->vm.clock) + 100000);
}

static void *busy_thread(void *arg)
{
	struct busy *busy = arg;

	loop_run(&busy->vm.loop);
	return NULL;
}

static void test_live_machines(void **state)
{
	struct busy *busy = calloc(4, sizeof(*busy));
	struct error err;

	assert_non_null(busy);
	for (unsigned i = 0; i < 4; i++) {
		assert_int_equal(vm_init(&busy[i].vm, false, &err), 0);
		timer_init(&busy[i].timer, &busy[i].vm.clock, busy_tick, &busy[i], NULL);
		timer_arm(&busy[i].timer, 0);
		assert_int_equal(thread_start(&busy[i].thread, "a-name-that-is-too-long", busy_thread, &busy[i]), 0);
	}
	for (unsigned i = 0; i < 4; i++) {
		pthread_join(busy[i].thread, NULL);
		assert_int_equal(busy[i].ticks, 50);
		vm_fini(&busy[i].vm);
	}
	free(busy);
}

struct look {
	sigset_t mask;
	char name[16];
};

static void *look_thread(void *arg)
{
	struct look *look = arg;

	pthread_sigmask(SIG_SETMASK, NULL, &look->mask);
	pthread_getname_np(pthread_self(), look->name, sizeof(look->name));
	bus_read_lock(); /* asserts that the thread is registered */
	bus_read_unlock();
	return arg;
}

static void test_thread(void **state)
{
	sigset_t before, after;
	struct look look;
	pthread_t thread;
	void *ret;

	pthread_sigmask(SIG_SETMASK, NULL, &before);
	assert_int_equal(thread_start(&thread, "vcpu0-is-a-long-name", look_thread, &look), 0);
	pthread_join(thread, &ret);
	assert_ptr_equal(ret, &look);
	assert_string_equal(look.name, "vcpu0-is-a-long");
	assert_true(sigismember(&look.mask, SIGINT));
	assert_true(sigismember(&look.mask, SIGTERM));
	assert_true(sigismember(&look.mask, SIGPIPE));
	assert_false(sigismember(&look.mask, KICK_SIGNAL));
	assert_false(sigismember(&look.mask, SIGSEGV));
	pthread_sigmask(SIG_SETMASK, NULL, &after);
	for (int sig = 1; sig < 64; sig++)
		assert_int_equal(sigismember(&before, sig), sigismember(&after, sig));
}

struct early_look {
	sem_t gate;
	unsigned done;
	pid_t tids[2];
	char name[16];
};

static void *early_first(void *arg)
{
	struct early_look *look = arg;

	sem_wait(&look->gate);
	look->tids[0] = gettid();
	look->done++;
	return NULL;
}

static void *early_second(void *arg)
{
	struct early_look *look = arg;

	look->tids[1] = gettid();
	look->done++;
	pthread_getname_np(pthread_self(), look->name, sizeof(look->name));
	return look;
}

static void test_early_thread(void **state)
{
	struct early_look look = { 0 };
	struct early_thread early = { 0 };
	pthread_t thread;
	void *ret;

	sem_init(&look.gate, 0, 0);
	early_end(&early);
	assert_int_equal(early_start(&early, "early", early_first, &look), 0);
	assert_true(early.up);
	sem_post(&look.gate);
	early_wait(&early);
	assert_int_equal(look.done, 1);
	early_go_on(&early, "late", early_second, &look, &thread);
	assert_false(early.up);
	early_end(&early);
	pthread_join(thread, &ret);
	assert_ptr_equal(ret, &look);
	assert_int_equal(look.done, 2);
	assert_int_equal(look.tids[0], look.tids[1]);
	assert_string_equal(look.name, "late");

	/* One that has no second work is waited for. */
	early = (struct early_thread){ 0 };
	assert_int_equal(early_start(&early, "early", early_first, &look), 0);
	sem_post(&look.gate);
	early_end(&early);
	assert_int_equal(look.done, 3);
	assert_false(early.up);
	sem_destroy(&look.gate);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_two_machines),
		cmocka_unit_test(test_reset),
		cmocka_unit_test(test_conflicts),
		cmocka_unit_test(test_removal_waits_for_handlers),
		cmocka_unit_test(test_live_machines),
		cmocka_unit_test(test_thread),
		cmocka_unit_test(test_early_thread),
	};

	alarm(60);
	return cmocka_run_group_tests(tests, unit_adopt, unit_release);
}
