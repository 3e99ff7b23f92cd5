/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * stats.c - who each exit to user space went to, as JSON, once the vCPUs have stopped.
 *
 * Devices count pieces of accesses, KVM counts exits. They meet: an access is an exit, its pieces beyond the first
 * are told apart ("split"), and so are the writes that the kernel has queued instead of exiting ("posted").
 */
#include "cli/cli.h"

#include <errno.h>
#include <jansson.h>
#include <string.h>

#include "virtio/virtio.h"

struct sums {
	uint64_t exits, interrupted, split, reads, writes, wrong_width;
	uint64_t served[2]; /* by any region; by trap.write */
	uint64_t reasons[VCPU_REASONS];
};

static json_t *number(uint64_t value)
{
	return json_integer((json_int_t)value);
}

static void add_up(struct sums *sums, const struct initiator *from)
{
	sums->split += from->split;
	for (unsigned space = 0; space < NR_SPACES; space++) {
		sums->reads += from->unclaimed_reads[space];
		sums->writes += from->unclaimed_writes[space];
		sums->wrong_width += from->wrong_width[space];
		sums->served[false] += from->reads[space];
		sums->served[true] += from->writes[space];
	}
}

static void add_strays(json_t *array, const struct initiator *from)
{
	for (unsigned i = 0; i < BUS_STRAYS; i++) {
		const struct stray *stray = &from->strays[i];

		if (stray->count)
			json_array_append_new(array,
				json_pack("{s:s, s:s, s:o, s:o}", "from", from->name, "space", space_name(stray->space),
					"addr", number(stray->addr), "count", number(stray->count)));
	}
}

struct listing {
	json_t *array;
	uint64_t reads, writes;
};

static void add_region(struct region *region, void *arg)
{
	const struct device *dev = region->owner;
	struct region_count count = region_counts(region);
	struct listing *listing = arg;

	if (!count.reads && !count.writes)
		return;
	listing->reads += count.reads;
	listing->writes += count.writes;
	json_array_append_new(
		listing->array, json_pack("{s:s?, s:s, s:s, s:o, s:o, s:o, s:o}", "device", dev ? dev->name : NULL,
					"name", region->name, "space", space_name(region->space), "base",
					number(region->base), "posts", number(region->coalesced ? region->coalesce : 0),
					"reads", number(count.reads), "writes", number(count.writes)));
}

/* Exits that were no access, by KVM's number for the reason (KVM_EXIT_*). */
static json_t *other_json(const struct sums *sums)
{
	json_t *object = json_object();

	for (unsigned i = 0; i < VCPU_REASONS; i++) {
		char key[32];

		if (!sums->reasons[i] || i == KVM_EXIT_IO || i == KVM_EXIT_MMIO)
			continue;
		snprintf(key, sizeof(key), "reason %u", i);
		json_object_set_new(object, key, number(sums->reasons[i]));
	}
	json_object_set_new(object, "interrupted", number(sums->interrupted));
	return object;
}

static void add_vcpu(struct sums *sums, const struct vcpu *vcpu)
{
	sums->exits += vcpu->exits + vcpu->interrupted;
	sums->interrupted += vcpu->interrupted;
	for (unsigned i = 0; i < VCPU_REASONS; i++)
		sums->reasons[i] += vcpu->reasons[i];
	add_up(sums, &vcpu->from);
}

static void add_queues(json_t *array, struct device *dev)
{
	const struct virtio *v = virtio_of(dev);

	for (unsigned i = 0; v && i < v->nr_queues; i++) {
		const struct virtio_queue *vq = v->queues[i];

		json_array_append_new(
			array, json_pack("{s:s, s:i, s:o, s:o, s:o, s:o}", "device", dev->name, "queue", (int)i,
				       "kicks", number(vq->kicks), "interrupts", number(vq->interrupts), "requests",
				       number(__atomic_load_n(&vq->q.taken, __ATOMIC_RELAXED)), "broken",
				       number(__atomic_load_n(&vq->q.faults, __ATOMIC_RELAXED))));
	}
}

static json_t *queues_json(const struct machine *m)
{
	json_t *array = json_array();

	list_for_each (node, &m->vm.devices)
		add_queues(array, container_of(node, struct device, node));
	return array;
}

static void add_count(void *arg, const char *name, uint64_t n)
{
	json_t *object = arg;

	json_object_set_new(object, name, number(n));
}

/* By the device's name. */
static json_t *counts_json(const struct machine *m)
{
	json_t *all = json_object();

	list_for_each (node, &m->vm.devices) {
		struct device *dev = container_of(node, struct device, node);
		struct virtio *v = virtio_of(dev);
		json_t *object;

		if (!v)
			continue;
		object = json_object();
		add_count(object, "resets", __atomic_load_n(&v->resets, __ATOMIC_RELAXED));
		if (v->type->counts)
			v->type->counts(v, add_count, object);
		json_object_set_new(all, dev->name, object);
	}
	return all;
}

static json_t *reads_writes(uint64_t reads, uint64_t writes)
{
	return json_pack("{s:o, s:o}", "reads", number(reads), "writes", number(writes));
}

int stats_write(const struct machine *m, FILE *out)
{
	struct listing listing = { .array = json_array() };
	json_t *strays = json_array(), *root;
	struct sums sums = { 0 };
	int r;

	add_up(&sums, &m->kvm.posted);
	add_strays(strays, &m->kvm.posted);
	for (unsigned i = 0; i < m->kvm.nr_vcpus; i++) {
		add_vcpu(&sums, &m->kvm.vcpus[i]);
		add_strays(strays, &m->kvm.vcpus[i].from);
	}
	for (unsigned space = 0; space < NR_SPACES; space++)
		bus_for_each(m->vm.bus, (enum space)space, add_region, &listing);
	root = json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:{s:o, s:o, s:o, s:o}}", "exits",
		number(sums.exits), "ports", number(sums.reasons[KVM_EXIT_IO]), "memory",
		number(sums.reasons[KVM_EXIT_MMIO]), "other", other_json(&sums), "split", number(sums.split), "posted",
		number(m->kvm.posted_writes), "regions", listing.array, "virtio", queues_json(m), "counters",
		counts_json(m), "gone",
		reads_writes(sums.served[false] - listing.reads, sums.served[true] - listing.writes), "unclaimed",
		"reads", number(sums.reads), "writes", number(sums.writes), "wrong_width", number(sums.wrong_width),
		"addresses", strays);
	if (!root)
		return -ENOMEM;
	r = json_dumpf(root, out, JSON_INDENT(2)) || fputc('\n', out) == EOF ? -EIO : 0;
	json_decref(root);
	return r;
}
