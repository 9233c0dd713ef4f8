/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * One source for two loaders. libbpf takes the prebuilt CO-RE object; bcc compiles the same text on the
 * host. bcc has no read-only data, no `.maps` section and no BPF-to-BPF calls: settings come as -D
 * macros, maps are bcc tables, helpers are always inlined.
 *
 * TRACEPOINT, FENTRY, FEXIT(hook, name, args)  a program with typed arguments
 * RUN_BY_SENSOR(name, args)                   one that no hook runs, but the sensor by test run
 * READ(pointer, member...)                    a chain of kernel reads that cannot fault
 * LOAD(argument, member...)                   a chain from a program's own BTF-typed argument: plain loads,
 *                                             a tenth of READ's cost
 * MAP_*, RING_*                               maps and rings
 */
#ifndef LIMES_COMPAT_H
#define LIMES_COMPAT_H

#ifdef LIMES_BCC

#include "bcc.h"
#include "kernel.h"

#else

#include "kernel.h"
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#define MAP_HASH(map, key_type, value_type, size) \
	struct {                                  \
		__uint(type, BPF_MAP_TYPE_HASH);  \
		__uint(max_entries, size);        \
		__type(key, key_type);            \
		__type(value, value_type);        \
	} map SEC(".maps")
#define MAP_PERCPU_HASH(map, key_type, value_type, size) \
	struct {                                         \
		__uint(type, BPF_MAP_TYPE_PERCPU_HASH);  \
		__uint(max_entries, size);               \
		__type(key, key_type);                   \
		__type(value, value_type);               \
	} map SEC(".maps")
#define MAP_LRU_HASH(map, key_type, value_type, size) \
	struct {                                      \
		__uint(type, BPF_MAP_TYPE_LRU_HASH);  \
		__uint(max_entries, size);            \
		__type(key, key_type);                \
		__type(value, value_type);            \
	} map SEC(".maps")
#define MAP_ARRAY(map, value_type, size)          \
	struct {                                  \
		__uint(type, BPF_MAP_TYPE_ARRAY); \
		__uint(max_entries, size);        \
		__type(key, __u32);               \
		__type(value, value_type);        \
	} map SEC(".maps")
#define MAP_PERCPU_ARRAY(map, value_type, size)          \
	struct {                                         \
		__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY); \
		__uint(max_entries, size);               \
		__type(key, __u32);                      \
		__type(value, value_type);               \
	} map SEC(".maps")
#define MAP_RING(map, bytes)                        \
	struct {                                    \
		__uint(type, BPF_MAP_TYPE_RINGBUF); \
		__uint(max_entries, bytes);         \
	} map SEC(".maps")

#define MAP_LOOKUP(map, key) bpf_map_lookup_elem(&(map), key)
#define MAP_UPDATE(map, key, value) bpf_map_update_elem(&(map), key, value, BPF_ANY)
#define MAP_INSERT(map, key, value) bpf_map_update_elem(&(map), key, value, BPF_NOEXIST)
#define MAP_DELETE(map, key) bpf_map_delete_elem(&(map), key)
#define RING_RESERVE(map, type) ((type *)bpf_ringbuf_reserve(&(map), sizeof(type), 0))
/* No wake-up: the consumer drains on a timer, and a wake-up costs the traced task 50 times the submit. */
#define NO_WAKEUP BPF_RB_NO_WAKEUP
#define RING_SUBMIT(map, record, flags) bpf_ringbuf_submit(record, flags)

#define TRACEPOINT(hook, name, args...) SEC("tp_btf/" #hook) int BPF_PROG(name, ##args)
#define FENTRY(hook, name, args...) SEC("fentry/" #hook) int BPF_PROG(name, ##args)
#define FEXIT(hook, name, args...) SEC("fexit/" #hook) int BPF_PROG(name, ##args)
#define RUN_BY_SENSOR(name, args...) SEC("raw_tp") int BPF_PROG(name, ##args)
#define READ(pointer, ...) BPF_CORE_READ(pointer, __VA_ARGS__)
#define LOAD_1(p, a) ((p)->a)
#define LOAD_2(p, a, b) ((p)->a->b)
#define LOAD_3(p, a, b, c) ((p)->a->b->c)
#define LOAD_PICK(p, a, b, c, name, ...) name
#define LOAD(...) LOAD_PICK(__VA_ARGS__, LOAD_3, LOAD_2, LOAD_1)(__VA_ARGS__)
#define FIELD_EXISTS(field) bpf_core_field_exists(field)

char LICENSE[] SEC("license") = "Dual BSD/GPL";

#endif /* LIMES_BCC */

#endif /* LIMES_COMPAT_H */
